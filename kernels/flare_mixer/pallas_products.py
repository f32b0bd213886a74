"""Products of tiles on the tensor cores, float32 ones with float32 accuracy.

The tensor cores multiply float16 and bfloat16 exactly and sum in float32. A float32 number within the range of float16
is the sum of two float16 parts of 11 bits each; of the four products of parts, the three largest give a product to
about 2⁻²³. A tile is therefore a tuple of parts, two for float32 and one for bfloat16, and the same kernel code serves
both. `pallas_scales` brings float32 operands into that range. Parts of bfloat16 have the range of float32, but need
six products, and three TF32 products take as many steps of the tensor cores and more conversions.
"""

import jax
import jax.numpy as jnp

from kernels._pallas import interpreted

Parts = tuple[jax.Array, ...]


def is_split(dtype: jax.typing.DTypeLike) -> bool:
    """Return whether operands of this dtype are multiplied in parts."""
    return jnp.dtype(dtype) == jnp.float32


def split_tile(x: jax.Array, scale: jax.Array | float = 1.0) -> Parts:
    """Return the parts of a tile times `scale`; one that is not float32 is its own only part, and takes no scale."""
    if not is_split(x.dtype):
        return (x,)
    x = x * scale
    return _split_in_xla(x) if interpreted() else _split(x, x.astype(jnp.float16).astype(jnp.float32))


def _split_in_xla(x: jax.Array) -> Parts:
    # Not a conversion there and back, which XLA takes for the identity.
    return _split(x, jax.lax.reduce_precision(x, exponent_bits=5, mantissa_bits=10))


def _split(x: jax.Array, rounded: jax.Array) -> Parts:
    return rounded.astype(jnp.float16), (x - rounded).astype(jnp.float16)


def weight_parts(weights: jax.Array, values: Parts) -> Parts:
    """Return float32 weights as the left factor of a product with `values`: split like them, or rounded like them."""
    return split_tile(weights.astype(jnp.float32 if len(values) > 1 else values[0].dtype))


def stored_parts(x: jax.Array, read_once: bool) -> jax.Array:
    """Return an operand `[parts, ...]` for tiles that a kernel loads; those that it reads once are split there."""
    return x[None] if read_once or not is_split(x.dtype) else jnp.stack(_split_in_xla(x))


def multiply(a: Parts, b: Parts, contract: tuple[int, int], start: jax.Array | None = None) -> jax.Array:
    """Return `start` plus the product of two tiles over axes `contract`, summed in float32.

    The tensor cores cut off what a sum cannot hold instead of rounding it, which over thousands of steps becomes a
    bias. So the products of parts are summed by themselves, and their sum is added to `start` with rounding.
    """
    numbers = (((contract[0],), (contract[1],)), ((), ()))
    total = None
    for order in reversed(range(len(a))):  # the smallest products first
        for i in range(order + 1):
            x, y = a[i], b[order - i]
            if interpreted():  # a CPU has no products of 16 bits with float32 sums; in float32 they are exact
                x, y = x.astype(jnp.float32), y.astype(jnp.float32)
            product = jax.lax.dot_general(
                x, y, numbers, precision=jax.lax.Precision.HIGHEST, preferred_element_type=jnp.float32
            )
            total = product if total is None else total + product
    return total if start is None else start + total
