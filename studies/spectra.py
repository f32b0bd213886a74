"""What rank do FLARE's mixing matrices have? Trained networks with M latents, analysed on their test sets.

    python -m experiments.sweep --study=studies/spectra.py

Every run leaves the eigenvalues of its blocks and heads, with figures, in its folder `analysis`.
"""

from experiments.sweep.figures import Curves, Profile
from experiments.sweep.study import Part, Study, axis, choose_variant
from studies.common import DARCY, ELASTICITY, TINY_FLARE, tiny


def get_study(variant: str) -> Study:
    """Return the study; `smoke` has one tiny network on elasticity."""
    configs = {"elasticity": ELASTICITY, "darcy": DARCY}
    latents = axis("model.num_latents", 16, 64, 256)
    full = tuple(Part(config=config, labels={"data": data}, axes=(latents,)) for data, config in configs.items())
    few = axis("model.num_latents", 4), axis("model.num_blocks", 1)
    smoke = (Part(config=TINY_FLARE, options=tiny(TINY_FLARE), labels={"data": "elasticity"}, axes=few),)
    return Study(
        name="spectra",
        title="FLARE: effective rank of the mixing matrices",
        columns=("data", "num_latents"),
        parts=choose_variant(variant, full, smoke),
        figures={
            "effective_rank": Curves(
                x="num_latents", lines="data", metrics=("effective_rank", "error"), names={"num_latents": "latents"}
            ),
            "effective_rank_by_block": Profile(
                prefix="effective_rank_", lines="num_latents", panels="data", names={"num_latents": "M"}
            ),
        },
        metrics=("error", "effective_rank"),
        analyze=True,
    )
