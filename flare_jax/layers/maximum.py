"""A maximum along one axis whose gradient survives recomputation."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def maximum(x: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """Return the largest entries of x along `axis`, which keeps length 1; the first of equal ones has the gradient.

    The gradient of a maximum by value looks for that value in a recomputed x, which a compiler may round differently:
    nothing is found then, and the gradient is NaN. This one is chosen by its index.
    """
    chosen = jnp.argmax(x, axis=axis, keepdims=True)
    # A sum over one entry instead of a gather, whose gradient is a scatter.
    is_chosen = jax.lax.broadcasted_iota(chosen.dtype, x.shape, axis % x.ndim) == chosen
    return jnp.sum(jnp.where(is_chosen, x, 0), axis=axis, keepdims=True)
