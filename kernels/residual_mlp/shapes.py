"""Named shapes of FLARE models, for the GPU tests and the benchmark."""

from typing import NamedTuple

# Inner layers of the key, value and feed-forward MLPs in the published models.
INNER_LAYERS = 3


class MlpShape(NamedTuple):
    """Rows (batch times points) and channels."""

    rows: int
    channels: int


SHAPES = {
    "elasticity": MlpShape(1944, 64),
    "darcy": MlpShape(14_450, 64),
    "drivaer_40k": MlpShape(40_000, 64),
    "million_c64": MlpShape(1_048_576, 64),
    "elasticity_c128": MlpShape(1944, 128),
    "darcy_c128": MlpShape(14_450, 128),
    "drivaer_40k_c128": MlpShape(40_000, 128),
    "million_c128": MlpShape(1_048_576, 128),
}
