"""RMS normalisation with a gate, the output stage of state-space layers."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flare_jax.checks import check_dtype, check_integer
from flare_jax.layers.initializers import ones


class GatedRMSNorm(nnx.Module):
    """`RMS(x) · scale · silu(gate)` if `norm_before_gate`, else `RMS(x · silu(gate)) · scale`, in float32.

    RMS divides by `√(mean(x²) + epsilon)` within each of `num_groups` equal parts of the channels. `scale` [C] = 1.
    """

    def __init__(
        self,
        channel_dim: int,
        *,
        norm_before_gate: bool,
        num_groups: int = 1,
        epsilon: float = 1e-5,
        dtype: DTypeLike = jnp.float32,
    ):
        check_integer("channel_dim", channel_dim)
        check_integer("num_groups", num_groups)
        if channel_dim % num_groups:
            raise ValueError(f"num_groups {num_groups} does not divide channel_dim {channel_dim}; choose a divisor")
        self.norm_before_gate = norm_before_gate
        self.num_groups = num_groups
        self.epsilon = epsilon
        self.dtype = check_dtype(dtype)
        self.scale = nnx.Param(ones(channel_dim))

    def __call__(self, x: Float[Array, "... C"], gate: Float[Array, "... C"]) -> Float[Array, "... C"]:
        """Normalise and gate the last axis."""
        gate = jax.nn.silu(gate.astype(jnp.float32))
        x = x.astype(jnp.float32)
        y = self._normalize(x) * gate if self.norm_before_gate else self._normalize(x * gate)
        return y.astype(self.dtype)

    def _normalize(self, x: Float[Array, "... C"]) -> Float[Array, "... C"]:
        grouped = x.reshape(*x.shape[:-1], self.num_groups, -1)
        mean_square = jnp.square(grouped).mean(-1, keepdims=True)
        return (grouped * jax.lax.rsqrt(mean_square + self.epsilon)).reshape(x.shape) * self.scale[...]
