"""How many heads does FLARE need? Heads of width 64 to 2 in a network of width 64, and latents M, on elasticity.

python -m experiments.sweep --study=studies/num_heads.py
"""

from experiments.sweep.figures import Curves
from experiments.sweep.study import Part, Study, axis, choose_variant, grid
from studies.common import ELASTICITY, TINY_FLARE, tiny

WIDTHS = (64, 32, 16, 8, 4, 2)
# Test relative L2 × 1e-3 of the original, a row for each M.
PUBLISHED = {
    16: "5.54 5.02 4.71 5.05 4.51 5.28",
    32: "5.25 4.57 3.92 3.71 3.80 3.91",
    64: "5.61 4.44 3.98 3.73 3.45 4.55",
    128: "4.60 4.38 3.92 4.30 4.16 4.60",
}


def get_study(variant: str) -> Study:
    """Return the study; `smoke` has two heads in a tiny network."""
    full = tuple(_part(ELASTICITY, {}, 64, width, tuple(PUBLISHED)) for width in WIDTHS)
    smoke = tuple(_part(TINY_FLARE, tiny(TINY_FLARE), 8, width, (4,)) for width in (4,))
    return Study(
        name="num_heads",
        title="FLARE on elasticity: width of the heads",
        columns=("num_latents", "head_width"),
        parts=choose_variant(variant, full, smoke),
        figures={"num_heads": Curves(x="head_width", lines="num_latents", names={"num_latents": "M"})},
        published={"error": grid(PUBLISHED, WIDTHS)},
    )


def _part(config: str, options: dict, channels: int, width: int, latents: tuple[int, ...]) -> Part:
    return Part(
        config=config,
        labels={"head_width": width},
        options={**options, "model.num_heads": channels // width},
        axes=(axis("model.num_latents", *latents),),
    )
