"""The two-layer MLP that the slice-token models and GNOT apply to every point."""

from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flare_jax.checks import check_dtype, check_integer
from flare_jax.layers.activations import (
    GATED_ACTIVATIONS,
    POINTWISE_ACTIVATIONS,
    Activation,
    find_activation,
)
from flare_jax.layers.linear import InputLinear, Linear


class PointwiseMLP(nnx.Module):
    """`fc2(act(fc1 x))` on the last axis; the default `act` is the exact GELU.

    `activations` says what the names in `act` mean. A gated activation halves the hidden vector, so that `fc2` has
    `hidden_dim / 2` inputs. With `embedding` x are coordinates and the like: the MLP computes in float32, and only its
    result has the compute dtype. Raises ValueError for an unknown name, a size below 1, or an odd gated `hidden_dim`.
    """

    def __init__(
        self,
        in_dim: int,
        hidden_dim: int,
        out_dim: int,
        *,
        act: str | None = "gelu",
        activations: Mapping[str | None, Activation] = POINTWISE_ACTIVATIONS,
        embedding: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.activation = find_activation(act, activations)
        gated = self.activation in GATED_ACTIVATIONS
        if gated and check_integer("hidden_dim", hidden_dim) % 2:
            raise ValueError(
                f"act {act!r} halves the hidden vector but its width is {hidden_dim}; "
                "choose channel_dim and mlp_ratio so that the hidden width is even"
            )
        self.dtype = check_dtype(dtype)
        inner = jnp.float32 if embedding else dtype
        self.fc1 = (
            InputLinear(in_dim, hidden_dim, rngs=rngs)
            if embedding
            else Linear(in_dim, hidden_dim, dtype=inner, rngs=rngs)
        )
        self.fc2 = Linear(hidden_dim // 2 if gated else hidden_dim, out_dim, dtype=inner, rngs=rngs)

    def __call__(self, x: Float[Array, "... C_in"]) -> Float[Array, "... C_out"]:
        """Map the last axis."""
        return self.fc2(self.activation(self.fc1(x))).astype(self.dtype)
