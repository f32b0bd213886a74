"""Initial parameter distributions (schemes of the original models)."""

import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array

LINEAR_STD = 0.02
LATENT_STD = 0.1


def normal(std: float) -> Initializer:
    """Return the initialiser Normal(0, std²)."""

    def initialize(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
        return std * jax.random.normal(key, shape, dtype)

    return initialize


def uniform(bound: float) -> Initializer:
    """Return the initialiser Uniform(−bound, bound)."""

    def initialize(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initialize


def identity_plus(noise: Initializer) -> Initializer:
    """Return the initialiser of square matrices: the identity and `noise`."""

    def initialize(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
        return jnp.eye(*shape, dtype=dtype) + noise(key, shape, dtype)

    return initialize


def fan_in_uniform(fan_in: int) -> Initializer:
    """Return the initialiser Uniform(±1/√fan_in), what PyTorch gives to weights and biases alike."""
    return uniform(fan_in**-0.5)


# The slice models ask for Normal(0, 0.02²) truncated at ±2, which is 100 standard deviations: the same distribution.
linear_kernel = normal(LINEAR_STD)
latents = normal(LATENT_STD)
