"""Feature maps φ of kernelised attention, by name; each acts on the last axis, the entries of one head.

The elementwise maps of the table and `taylor` have no parameters. `swiglu`, `hadamard`, `hedgehog` and `outer` are
learnable; one of them is shared by all heads and by queries and keys. Maps that can be negative (`identity`, `gelu`,
`tanh`, `softsign`, `cos`, `sin`, and all learnable ones but `hedgehog`) can bring the denominator of normalised linear
attention near zero; nothing guards against that, as in the original.
"""

import types
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flare_jax.checks import check_choice, check_integer, check_positive
from flare_jax.layers.activations import gelu_erf
from flare_jax.layers.linear import Linear

FeatureMap = Callable[[Array], Array]

NORM_EPSILON = 1e-6
EXP_LIMIT = 30.0


def safe_norm(x: Float[Array, "... D"]) -> Float[Array, "... 1"]:
    """Return ‖x‖₂ of the last axis in float32, with gradient 0 (not NaN) at x = 0."""
    squared = jnp.square(x.astype(jnp.float32)).sum(-1, keepdims=True)
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1)), 0)


def unit(x: Float[Array, "... D"]) -> Float[Array, "... D"]:
    """Return `x / (‖x‖₂ + 1e-6)` over the last axis, the normalisation of queries and keys after their map."""
    return (x / (safe_norm(x) + NORM_EPSILON)).astype(x.dtype)


def identity(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return x."""
    return x


def _relu_squared(x: Array) -> Array:
    return jnp.square(jax.nn.relu(x))


def _shifted_silu(x: Array) -> Array:
    # The minimum of silu is −0.2785, so this is at least 0.2215.
    return jax.nn.silu(x) + 0.5


def _shifted_elu(x: Array) -> Array:
    # elu(x) + 1 is exp(x) below zero; written so, it does not cancel. The inner choice keeps exp finite.
    return jnp.where(x > 0, x + 1, jnp.exp(jnp.where(x > 0, 0, x)))


def _shifted_elu_of_direction(x: Array) -> Array:
    return _shifted_elu((x / jnp.maximum(safe_norm(x), NORM_EPSILON)).astype(x.dtype))


def _shifted_softplus(x: Array) -> Array:
    return jax.nn.softplus(x) + 1e-6


def _clamped_exp(x: Array) -> Array:
    return jnp.exp(jnp.clip(x, -EXP_LIMIT, EXP_LIMIT))


def taylor(x: Float[Array, "... D"]) -> Float[Array, "... D_out"]:
    """Return features whose dot product is the second-order Taylor polynomial of exp(x·y/√D), 1 + D + D(D+1)/2 of them.

    In this order: 1, x/D^¼, x_i²/√(2D), and x_i x_j/√D for i < j row by row.
    """
    d = x.shape[-1]
    rows, columns = np.triu_indices(d, k=1)
    parts = (
        jnp.ones_like(x[..., :1]),
        x * d**-0.25,
        jnp.square(x) * (2 * d) ** -0.5,
        x[..., rows] * x[..., columns] * d**-0.5,
    )
    return jnp.concatenate(parts, axis=-1)


FIXED_MAPS: Mapping[str, FeatureMap] = types.MappingProxyType(
    {
        "identity": identity,
        "relu": jax.nn.relu,
        "relu_squared": _relu_squared,
        "silu": _shifted_silu,
        "elu": _shifted_elu,
        "elu_norm": _shifted_elu_of_direction,
        "gelu": gelu_erf,
        "tanh": jnp.tanh,
        "sigmoid": jax.nn.sigmoid,
        "softsign": jax.nn.soft_sign,
        "softplus": _shifted_softplus,
        "exp": _clamped_exp,
        "cos": jnp.cos,
        "sin": jnp.sin,
        "taylor": taylor,
    }
)


class SwiGLUMap(nnx.Module):
    """`layer3(a · silu(g))`, with a and g the halves of `layer1(x)`; `feature_dim` features."""

    def __init__(self, head_dim: int, feature_dim: int, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.layer1 = Linear(head_dim, 2 * feature_dim, dtype=dtype, rngs=rngs)
        self.layer3 = Linear(feature_dim, feature_dim, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D_out"]:
        """Map the last axis."""
        value, gate = jnp.split(self.layer1(x), 2, axis=-1)
        return self.layer3(value * jax.nn.silu(gate))


class HadamardMap(nnx.Module):
    """`layer1(x) · layer2(x)`, elementwise; `feature_dim` features."""

    def __init__(self, head_dim: int, feature_dim: int, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.layer1 = Linear(head_dim, feature_dim, dtype=dtype, rngs=rngs)
        self.layer2 = Linear(head_dim, feature_dim, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D_out"]:
        """Map the last axis."""
        return self.layer1(x) * self.layer2(x)


class HedgehogMap(nnx.Module):
    """`softmax(2z ⊕ −2z)` with `z = layer(x)` initialised as the identity; 2D features, whatever `feature_dim` says."""

    def __init__(self, head_dim: int, feature_dim: int, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        def identity_kernel(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
            return jnp.eye(*shape, dtype=dtype)

        self.layer = Linear(head_dim, head_dim, kernel_init=identity_kernel, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D_out"]:
        """Map the last axis."""
        z = 2 * self.layer(x)
        logits = jnp.concatenate((z, -z), axis=-1)
        return jax.nn.softmax(logits.astype(jnp.float32), axis=-1).astype(z.dtype)


class OuterMap(nnx.Module):
    """Upper triangle, diagonal included and row by row, of `layer1(x) ⊗ layer2(x)`; F(F+1)/2 features of F each."""

    def __init__(self, head_dim: int, feature_dim: int, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.layer1 = Linear(head_dim, feature_dim, use_bias=False, dtype=dtype, rngs=rngs)
        self.layer2 = Linear(head_dim, feature_dim, use_bias=False, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D_out"]:
        """Map the last axis."""
        first, second = self.layer1(x), self.layer2(x)
        rows, columns = np.triu_indices(first.shape[-1])
        return first[..., rows] * second[..., columns]


LEARNABLE_MAPS: Mapping[str, type[nnx.Module]] = types.MappingProxyType(
    {"swiglu": SwiGLUMap, "hadamard": HadamardMap, "hedgehog": HedgehogMap, "outer": OuterMap}
)
FEATURE_MAPS = (*FIXED_MAPS, *LEARNABLE_MAPS)


def make_feature_map(
    kernel: str, head_dim: int, *, qk_dim_ratio: float = 1.0, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
) -> FeatureMap:
    """Return the feature map named `kernel` for heads of width `head_dim`: a function, or a module if it is learnable.

    Learnable maps other than `hedgehog` have the feature width `int(head_dim · qk_dim_ratio)`; the others ignore the
    ratio. Raises ValueError for an unknown name or a ratio that leaves no feature.
    """
    check_choice("kernel", kernel, FEATURE_MAPS)
    check_integer("head_dim", head_dim)
    feature_dim = int(head_dim * check_positive("qk_dim_ratio", qk_dim_ratio))
    if feature_dim < 1:
        raise ValueError(
            f"qk_dim_ratio {qk_dim_ratio} leaves no feature of a head of width {head_dim}; increase qk_dim_ratio"
        )
    if kernel in FIXED_MAPS:
        return FIXED_MAPS[kernel]
    return LEARNABLE_MAPS[kernel](head_dim, feature_dim, dtype=dtype, rngs=rngs)
