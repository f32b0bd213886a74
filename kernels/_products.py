"""Contractions in plain XLA that are differentiated by JAX."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

# Contracts float32 or narrower arrays by subscripts.
Einsum = Callable[..., jax.Array]


def float32_einsum(exact: bool, subscripts: str, *operands: jax.Array) -> jax.Array:
    """Contract in float32; without `exact` as TF32 where there is such a thing, which numbers of bfloat16 fit into."""
    precision = "highest" if exact else "default"
    return jnp.einsum(subscripts, *(x.astype(jnp.float32) for x in operands), precision=precision)
