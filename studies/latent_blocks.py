"""Does self-attention among the latents pay? Blocks and latent blocks in each, with parameters and time, on elasticity.

python -m experiments.sweep --study=studies/latent_blocks.py
"""

from experiments.sweep.figures import HeatMap
from experiments.sweep.study import Part, Study, axis, choose_variant, grid
from studies.common import ABLATIONS, TINY_ABLATIONS, tiny

BLOCKS = (1, 2, 4, 8)
# Of the original, a row for each number of latent blocks: test relative L2, parameters, seconds per epoch.
ERRORS = {
    0: "2.12e-2 1.05e-2 5.27e-3 3.73e-3",
    1: "1.39e-2 8.59e-3 5.32e-3 3.65e-3",
    2: "1.34e-2 7.71e-3 4.82e-3 4.56e-3",
    4: "1.39e-2 7.00e-3 5.48e-3 4.30e-3",
    8: "1.23e-2 7.84e-3 5.39e-3 4.19e-3",
}
PARAMETERS = {
    0: "96.3e3 167.2e3 309.0e3 592.6e3",
    1: "146.0e3 266.8e3 508.2e3 991.0e3",
    2: "195.8e3 366.3e3 707.3e3 1.39e6",
    4: "295.4e3 565.5e3 1.11e6 2.19e6",
    8: "494.6e3 963.8e3 1.90e6 3.78e6",
}
SECONDS = {
    0: "4.6 6.5 9.9 16.8",
    1: "5.2 7.6 12.3 21.9",
    2: "5.6 8.3 15.8 25.7",
    4: "6.5 10.2 17.9 34.2",
    8: "8.3 13.7 24.8 48.8",
}


def get_study(variant: str) -> Study:
    """Return the study; `smoke` has no latent block in a tiny network."""
    full = Part(config=ABLATIONS, axes=(axis("model.num_latent_blocks", *ERRORS), axis("model.num_blocks", *BLOCKS)))
    few = axis("model.num_latent_blocks", 0), axis("model.num_blocks", 1)
    smoke = Part(config=TINY_ABLATIONS, options={**tiny(TINY_ABLATIONS), "model.shared_latents": False}, axes=few)
    names = {"num_blocks": "blocks", "num_latent_blocks": "latent blocks in each"}
    shown = ("error", "parameters", "epoch_s")
    return Study(
        name="latent_blocks",
        title="FLARE on elasticity: self-attention among the latents (error, parameters, seconds per epoch)",
        columns=("num_latent_blocks", "num_blocks"),
        parts=(choose_variant(variant, full, smoke),),
        figures={"latent_blocks": HeatMap(x="num_blocks", y="num_latent_blocks", metrics=shown, names=names)},
        published={
            name: grid(rows, BLOCKS, scale=1.0) for name, rows in zip(shown, (ERRORS, PARAMETERS, SECONDS), strict=True)
        },
    )
