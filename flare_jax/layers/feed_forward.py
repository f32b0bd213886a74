"""The two-layer feed-forward part of a transformer block."""

from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flare_jax.checks import scaled_width
from flare_jax.layers.activations import FEED_FORWARD_ACTIVATIONS, Activation
from flare_jax.layers.dropout import Key, check_rate, dropout
from flare_jax.layers.pointwise_mlp import PointwiseMLP


class FeedForward(PointwiseMLP):
    """`fc2(dropout(act(fc1 x)))` with hidden width `int(channel_dim · mlp_ratio)`; the default `act` is the exact GELU.

    A gated activation, if `activations` has any, halves the hidden vector.
    """

    def __init__(
        self,
        channel_dim: int,
        *,
        mlp_ratio: float = 4.0,
        act: str | None = None,
        proj_drop: float = 0.0,
        activations: Mapping[str | None, Activation] = FEED_FORWARD_ACTIVATIONS,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        hidden_dim = scaled_width("mlp_ratio", channel_dim, mlp_ratio)
        self.proj_drop = check_rate("proj_drop", proj_drop)
        super().__init__(channel_dim, hidden_dim, channel_dim, act=act, activations=activations, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "... C"], key: Key | None = None) -> Float[Array, "... C"]:
        """Map the last axis; `key` switches dropout on."""
        return self.fc2(dropout(self.activation(self.fc1(x)), self.proj_drop, key))
