"""How deep need FLARE's MLPs be? Inner layers of keys and values, and of the feed-forward part, on elasticity.

python -m experiments.sweep --study=studies/num_layers.py
"""

from experiments.sweep.figures import Curves
from experiments.sweep.study import Axis, Part, Study, axis, choose_variant, grid
from studies.common import ELASTICITY, TINY_FLARE, tiny

LAYERS = (0, 1, 2, 3, 4, 5)
OPTIONS = {
    "keys and values": ("model.num_layers_k_proj", "model.num_layers_v_proj"),
    "feed-forward": ("model.num_layers_ffn",),
}
# Test relative L2 × 1e-3 of the original, a row for each M; the other MLPs have three inner layers.
PUBLISHED = {
    "keys and values": {
        16: "6.36 4.95 4.46 5.14 3.61 4.06",
        32: "6.31 4.53 4.92 3.67 4.01 3.68",
        64: "5.96 3.91 3.79 3.77 3.68 3.57",
        128: "6.03 4.32 3.64 3.66 3.62 3.78",
    },
    "feed-forward": {
        16: "4.28 4.42 4.02 5.14 4.06 4.02",
        32: "4.47 4.53 3.74 3.67 3.85 4.37",
        64: "4.40 4.12 3.94 3.77 4.36 3.65",
        128: "4.11 3.94 3.83 3.66 3.47 3.53",
    },
}


def get_study(variant: str) -> Study:
    """Return the study; `smoke` has no inner layer in a tiny network."""
    full = tuple(
        Part(
            config=ELASTICITY,
            labels={"mlp": mlp},
            axes=(axis("model.num_latents", 16, 32, 64, 128), Axis("layers", options, LAYERS)),
        )
        for mlp, options in OPTIONS.items()
    )
    smoke = tuple(
        Part(
            config=TINY_FLARE,
            labels={"mlp": mlp},
            options=tiny(TINY_FLARE),
            axes=(axis("model.num_latents", 4), Axis("layers", options, layers)),
        )
        for (mlp, options), layers in zip(OPTIONS.items(), ((0,), (0,)), strict=True)
    )
    errors = {(mlp, *place): value for mlp, rows in PUBLISHED.items() for place, value in grid(rows, LAYERS).items()}
    names = {"num_latents": "M", "layers": "inner layers"}
    return Study(
        name="num_layers",
        title="FLARE on elasticity: depth of the MLPs",
        columns=("mlp", "num_latents", "layers"),
        parts=choose_variant(variant, full, smoke),
        figures={"num_layers": Curves(x="layers", lines="num_latents", panels="mlp", names=names)},
        published={"error": errors},
    )
