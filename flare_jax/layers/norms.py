"""Layer and RMS normalisation with the epsilons of PyTorch; statistics are float32 whatever the compute dtype."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flare_jax.checks import check_dtype, check_integer
from flare_jax.layers.initializers import ones, zeros
from kernels.residual_mlp import Norm

LAYER_NORM_EPSILON = 1e-5
# The original passes no epsilon to its RMSNorm, which then takes the machine epsilon of float32.
RMS_NORM_EPSILON = float(jnp.finfo(jnp.float32).eps)
# FLARE++ and the models that it is compared with pass this one.
FLAREPP_RMS_NORM_EPSILON = 1e-6


class LayerNorm(nnx.Module):
    """`(x − mean)/√(var + epsilon) · scale + bias` over the last axis, with the biased variance.

    Without `affine` there are no parameters, and neither factor nor summand.
    """

    def __init__(
        self,
        channel_dim: int,
        *,
        epsilon: float = LAYER_NORM_EPSILON,
        affine: bool = True,
        dtype: DTypeLike = jnp.float32,
    ):
        check_integer("channel_dim", channel_dim)
        self.epsilon = epsilon
        self.dtype = check_dtype(dtype)
        self.scale = nnx.Param(ones(channel_dim)) if affine else None
        self.bias = nnx.Param(zeros(channel_dim)) if affine else None

    def operand(self) -> Norm:
        """Return the norm as an argument of `normalize` and, if it is affine, of `kernels.residual_mlp`."""
        return Norm(scale=_value(self.scale), bias=_value(self.bias), kind="layer", epsilon=self.epsilon)

    def __call__(self, x: Float[Array, "... C"]) -> Float[Array, "... C"]:
        """Normalise the last axis."""
        return normalize(x, self.operand()).astype(self.dtype)


class RMSNorm(nnx.Module):
    """`x/√(mean(x²) + epsilon) · scale` over the last axis; without `affine` there is no factor and no parameter."""

    def __init__(
        self,
        channel_dim: int,
        *,
        epsilon: float = RMS_NORM_EPSILON,
        affine: bool = True,
        dtype: DTypeLike = jnp.float32,
    ):
        check_integer("channel_dim", channel_dim)
        self.epsilon = epsilon
        self.dtype = check_dtype(dtype)
        self.scale = nnx.Param(ones(channel_dim)) if affine else None

    def operand(self) -> Norm:
        """Return the norm as an argument of `normalize` and, if it is affine, of `kernels.residual_mlp`."""
        return Norm(scale=_value(self.scale), bias=None, kind="rms", epsilon=self.epsilon)

    def __call__(self, x: Float[Array, "... C"]) -> Float[Array, "... C"]:
        """Normalise the last axis."""
        return normalize(x, self.operand()).astype(self.dtype)


def normalize(x: Float[Array, "... C"], norm: Norm) -> Float[Array, "... C"]:
    """Return x normalised over its last axis, in float32."""
    x = x.astype(jnp.float32)
    if norm.kind == "layer":
        # The mean is subtracted before squaring: E[x²] − E[x]² cancels for features far from zero.
        x = x - x.mean(-1, keepdims=True)
    y = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + norm.epsilon)
    y = y if norm.scale is None else y * norm.scale
    return y if norm.bias is None else y + norm.bias


def make_norm(
    channel_dim: int,
    *,
    rmsnorm: bool,
    rms_epsilon: float = RMS_NORM_EPSILON,
    affine: bool = True,
    dtype: DTypeLike = jnp.float32,
) -> LayerNorm | RMSNorm:
    """Return an RMSNorm of epsilon `rms_epsilon` if `rmsnorm`, else a LayerNorm."""
    if rmsnorm:
        return RMSNorm(channel_dim, epsilon=rms_epsilon, affine=affine, dtype=dtype)
    return LayerNorm(channel_dim, affine=affine, dtype=dtype)


def _value(parameter: nnx.Param | None) -> Float[Array, " C"] | None:
    return None if parameter is None else parameter[...]
