"""Does every head need latents of its own? One set for all heads of a block, or one each, on elasticity.

python -m experiments.sweep --study=studies/shared_latents.py
"""

from experiments.sweep.figures import Curves
from experiments.sweep.study import Part, Study, axis, choose_variant, grid
from studies.common import ABLATIONS, TINY_ABLATIONS, tiny

BLOCKS = (1, 2, 4, 8)
# Test relative L2 × 1e-3 of the original.
PUBLISHED = {"independent": "21.94 9.99 5.22 3.85", "shared": "20.90 10.81 5.91 4.37"}


def get_study(variant: str) -> Study:
    """Return the study; `smoke` has both kinds in a tiny network."""

    def parts(config: str, options: dict, blocks: tuple[int, ...]) -> tuple[Part, ...]:
        return tuple(
            Part(
                config=config,
                labels={"latents": words},
                options={**options, "model.shared_latents": words == "shared"},
                axes=(axis("model.num_blocks", *blocks),),
            )
            for words in PUBLISHED
        )

    return Study(
        name="shared_latents",
        title="FLARE on elasticity: latents shared by the heads",
        columns=("latents", "num_blocks"),
        parts=choose_variant(variant, parts(ABLATIONS, {}, BLOCKS), parts(TINY_ABLATIONS, tiny(TINY_ABLATIONS), (1,))),
        figures={"shared_latents": Curves(x="num_blocks", lines="latents", names={"num_blocks": "blocks"})},
        published={"error": grid(PUBLISHED, BLOCKS)},
    )
