"""The two-layer feed-forward part of a transformer block."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flare_jax.checks import scaled_width
from flare_jax.layers.activations import FEED_FORWARD_ACTIVATIONS, find_activation
from flare_jax.layers.linear import Linear


class FeedForward(nnx.Module):
    """`fc2(act(fc1 x))` with hidden width `int(channel_dim · mlp_ratio)`; the default `act` is the exact GELU."""

    def __init__(
        self,
        channel_dim: int,
        *,
        mlp_ratio: float = 4.0,
        act: str | None = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        hidden_dim = scaled_width("mlp_ratio", channel_dim, mlp_ratio)
        self.activation = find_activation(act, FEED_FORWARD_ACTIVATIONS)
        self.fc1 = Linear(channel_dim, hidden_dim, dtype=dtype, rngs=rngs)
        self.fc2 = Linear(hidden_dim, channel_dim, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "... C"]) -> Float[Array, "... C"]:
        """Map the last axis."""
        return self.fc2(self.activation(self.fc1(x)))
