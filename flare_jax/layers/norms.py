"""Layer and RMS normalisation with the epsilons of PyTorch; statistics are float32 whatever the compute dtype."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flare_jax.checks import check_dtype, check_integer
from kernels.residual_mlp import Norm

LAYER_NORM_EPSILON = 1e-5
# The original passes no epsilon to its RMSNorm, which then takes the machine epsilon of float32.
RMS_NORM_EPSILON = float(jnp.finfo(jnp.float32).eps)


class LayerNorm(nnx.Module):
    """`(x − mean)/√(var + epsilon) · scale + bias` over the last axis, with the biased variance."""

    def __init__(self, channel_dim: int, *, epsilon: float = LAYER_NORM_EPSILON, dtype: DTypeLike = jnp.float32):
        check_integer("channel_dim", channel_dim)
        self.epsilon = epsilon
        self.dtype = check_dtype(dtype)
        self.scale = nnx.Param(jnp.ones(channel_dim, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(channel_dim, jnp.float32))

    def operand(self) -> Norm:
        """Return the norm as an argument of `kernels.residual_mlp`."""
        return Norm(scale=self.scale[...], bias=self.bias[...], kind="layer", epsilon=self.epsilon)

    def __call__(self, x: Float[Array, "... C"]) -> Float[Array, "... C"]:
        """Normalise the last axis."""
        x = x.astype(jnp.float32)
        # The mean is subtracted before squaring: E[x²] − E[x]² cancels for features far from zero.
        x = x - x.mean(-1, keepdims=True)
        variance = jnp.square(x).mean(-1, keepdims=True)
        y = x * jax.lax.rsqrt(variance + self.epsilon) * self.scale[...] + self.bias[...]
        return y.astype(self.dtype)


class RMSNorm(nnx.Module):
    """`x/√(mean(x²) + epsilon) · scale` over the last axis."""

    def __init__(self, channel_dim: int, *, epsilon: float = RMS_NORM_EPSILON, dtype: DTypeLike = jnp.float32):
        check_integer("channel_dim", channel_dim)
        self.epsilon = epsilon
        self.dtype = check_dtype(dtype)
        self.scale = nnx.Param(jnp.ones(channel_dim, jnp.float32))

    def operand(self) -> Norm:
        """Return the norm as an argument of `kernels.residual_mlp`."""
        return Norm(scale=self.scale[...], bias=None, kind="rms", epsilon=self.epsilon)

    def __call__(self, x: Float[Array, "... C"]) -> Float[Array, "... C"]:
        """Normalise the last axis."""
        x = x.astype(jnp.float32)
        mean_square = jnp.square(x).mean(-1, keepdims=True)
        return (x * jax.lax.rsqrt(mean_square + self.epsilon) * self.scale[...]).astype(self.dtype)


def make_norm(channel_dim: int, *, rmsnorm: bool, dtype: DTypeLike = jnp.float32) -> LayerNorm | RMSNorm:
    """Return an RMSNorm if `rmsnorm`, else a LayerNorm."""
    return (RMSNorm if rmsnorm else LayerNorm)(channel_dim, dtype=dtype)
