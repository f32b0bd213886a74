"""Small parts shared by the mixers and models."""

from flare_jax.layers.feed_forward import FeedForward
from flare_jax.layers.linear import Linear
from flare_jax.layers.norms import LayerNorm, RMSNorm, make_norm
from flare_jax.layers.output_projection import OutputProjection
from flare_jax.layers.residual_mlp import ResidualMLP, apply_branches

__all__ = [
    "FeedForward",
    "LayerNorm",
    "Linear",
    "OutputProjection",
    "RMSNorm",
    "ResidualMLP",
    "apply_branches",
    "make_norm",
]
