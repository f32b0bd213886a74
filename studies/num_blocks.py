"""How many blocks and latents does FLARE need? Latents M and blocks B on elasticity and Darcy flow.

python -m experiments.sweep --study=studies/num_blocks.py
python -m experiments.sweep --study=studies/num_blocks.py --where=data=elasticity --set=train.epochs=20 --seeds=0,1,2
"""

from experiments.sweep.figures import Curves
from experiments.sweep.study import Part, Study, axis, choose_variant, grid
from studies.common import DARCY, ELASTICITY, TINY_FLARE, tiny

BLOCKS = (1, 2, 4, 8, 12, 16, 20)
# Test relative L2 × 1e-3 of the original, a row for each M.
PUBLISHED = {
    "elasticity": {
        16: "22.98 9.94 6.48 4.70 3.26 3.42 3.25",
        32: "22.62 10.91 6.48 3.39 3.91 3.10 2.92",
        64: "22.00 9.99 5.23 3.84 4.06 3.17 2.95",
        128: "26.93 9.58 5.28 3.43 3.31 3.61 3.10",
        256: "21.00 9.51 6.27 3.51 3.00 3.46 3.51",
        512: "21.88 8.75 5.36 3.87 2.96 3.43 3.13",
    },
    "darcy": {
        16: "22.17 11.58 8.36 6.70 6.45 6.34 6.21",
        32: "20.14 9.14 6.63 6.07 6.11 6.17 5.96",
        64: "18.63 8.28 6.09 5.88 5.86 5.68 5.78",
        128: "18.49 7.67 5.87 5.42 5.24 5.32 5.11",
        256: "19.10 7.37 5.74 5.26 5.57 5.23 5.39",
        512: "18.34 7.41 5.61 5.10 4.91 5.15 5.04",
    },
}


def get_study(variant: str) -> Study:
    """Return the study; `smoke` has one tiny network on elasticity."""
    axes = axis("model.num_latents", *PUBLISHED["darcy"]), axis("model.num_blocks", *BLOCKS)
    configs = {"elasticity": ELASTICITY, "darcy": DARCY}
    full = tuple(Part(config=config, labels={"data": data}, axes=axes) for data, config in configs.items())
    few = axis("model.num_latents", 4), axis("model.num_blocks", 1)
    smoke = (Part(config=TINY_FLARE, options=tiny(TINY_FLARE), labels={"data": "elasticity"}, axes=few),)
    errors = {(data, *place): value for data, rows in PUBLISHED.items() for place, value in grid(rows, BLOCKS).items()}
    names = {"num_blocks": "blocks", "num_latents": "M"}
    return Study(
        name="num_blocks",
        title="FLARE: blocks and latents",
        columns=("data", "num_latents", "num_blocks"),
        parts=choose_variant(variant, full, smoke),
        figures={"num_blocks": Curves(x="num_blocks", lines="num_latents", panels="data", names=names)},
        published={"error": errors},
    )
