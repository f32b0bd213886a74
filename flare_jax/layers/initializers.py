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


linear_kernel = normal(LINEAR_STD)
latents = normal(LATENT_STD)
