"""Initial parameter distributions (schemes of the original models)."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn.initializers import Initializer
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array

LINEAR_STD = 0.02
LATENT_STD = 0.1
# So many numbers are drawn at a time, the least that suffices, so that arrays of many shapes share few programs.
_DRAWN_TOGETHER = (2**10, 2**12, 2**14, 2**16)


def normal(std: float) -> Initializer:
    """Return the initialiser Normal(0, std²)."""

    def initialize(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
        return _drawn(lambda count: jax.random.normal(key, (count,), dtype), shape, std)

    return initialize


def uniform(bound: float) -> Initializer:
    """Return the initialiser Uniform(−bound, bound)."""

    def initialize(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
        return draw_uniform(key, shape, -bound, bound, dtype)

    return initialize


def draw_uniform(key: Array, shape: tuple[int, ...], low: float, high: float, dtype: DTypeLike = jnp.float32) -> Array:
    """Return an array of this shape from Uniform(low, high)."""
    return _drawn(lambda count: jax.random.uniform(key, (count,), dtype, low, high), shape)


def identity_plus(noise: Initializer) -> Initializer:
    """Return the initialiser of square matrices: the identity and `noise`."""

    def initialize(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
        return jax.device_put(np.eye(*shape, dtype=dtype)) + noise(key, shape, dtype)

    return initialize


def fan_in_uniform(fan_in: int) -> Initializer:
    """Return the initialiser Uniform(±1/√fan_in), what PyTorch gives to weights and biases alike."""
    return uniform(fan_in**-0.5)


def filled(shape: int | tuple[int, ...], value: ArrayLike) -> Array:
    """Return a float32 array of this shape with one value, for which no program is compiled."""
    return jax.device_put(np.full(shape, value, np.float32))


def zeros(shape: int | tuple[int, ...]) -> Array:
    """Return a float32 array of zeros, for which no program is compiled."""
    return filled(shape, 0.0)


def ones(shape: int | tuple[int, ...]) -> Array:
    """Return a float32 array of ones, for which no program is compiled."""
    return filled(shape, 1.0)


def _drawn(draw: Callable[[int], Array], shape: tuple[int, ...], scale: float = 1.0) -> Array:
    """Return the random array of this shape, of which `draw(count)` gives the first `count` numbers in its order.

    They are multiplied by `scale`. A random number depends on its place alone, not on how many are drawn. To compile
    programs for every shape takes most of the time in which a model is made.
    """
    size = math.prod(shape)
    values = draw(next((count for count in _DRAWN_TOGETHER if count >= size), size))
    if isinstance(values, jax.core.Tracer):
        return scale * jax.lax.slice(values, (0,), (size,)).reshape(shape)
    return jax.device_put(values.dtype.type(scale) * np.asarray(values)[:size].reshape(shape))


# The slice models ask for Normal(0, 0.02²) truncated at ±2, which is 100 standard deviations: the same distribution.
linear_kernel = normal(LINEAR_STD)
latents = normal(LATENT_STD)
