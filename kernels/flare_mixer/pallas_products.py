"""Products of tiles on the tensor cores, float32 ones with float32 accuracy.

The tensor cores multiply bfloat16 exactly and sum in float32. A float32 number is the sum of three bfloat16 parts of 8
bits each; of the nine products of parts, the six largest give a product to about 2⁻²⁴. A tile is therefore a tuple of
parts, three for float32 and one for bfloat16, and the same kernel code serves both. Three TF32 products would need as
many steps of the tensor cores and more conversions. A CPU multiplies float32 itself, as one part.
"""

import jax
import jax.numpy as jnp

from kernels._pallas import interpreted

Parts = tuple[jax.Array, ...]
_NUM_PARTS = 3


def _is_split(x: jax.Array) -> bool:
    return x.dtype == jnp.float32 and not interpreted()


def split_tile(x: jax.Array) -> Parts:
    """Return the parts of a tile inside a kernel."""
    if not _is_split(x):
        return (x,)
    parts = []
    for _ in range(_NUM_PARTS - 1):
        # The upper half of the bits, for cutting them off takes one instruction and rounding there and back several.
        bits = jax.lax.bitcast_convert_type(x, jnp.uint32) & jnp.uint32(0xFFFF0000)
        part = jax.lax.bitcast_convert_type(bits, jnp.float32)
        parts.append(part.astype(jnp.bfloat16))
        x = x - part
    return (*parts, x.astype(jnp.bfloat16))


def weight_parts(weights: jax.Array, values: Parts) -> Parts:
    """Return float32 weights as the left factor of a product with `values`: split like them, or rounded like them."""
    return split_tile(weights.astype(jnp.float32 if len(values) > 1 else values[0].dtype))


def stored_parts(x: jax.Array, read_once: bool) -> jax.Array:
    """Return an operand `[parts, ...]` for tiles that a kernel loads; those that it reads once are split there."""
    if read_once or not _is_split(x):
        return x[None]
    parts = []
    for _ in range(_NUM_PARTS):
        # Not a conversion there and back, which XLA takes for the identity.
        parts.append(jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7))
        x = x - parts[-1]
    return jnp.stack(parts).astype(jnp.bfloat16)


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
            if interpreted():  # a CPU has no products of bfloat16 with float32 sums; in float32 they are exact
                x, y = x.astype(jnp.float32), y.astype(jnp.float32)
            product = jax.lax.dot_general(
                x, y, numbers, precision=jax.lax.Precision.HIGHEST, preferred_element_type=jnp.float32
            )
            total = product if total is None else total + product
    return total if start is None else start + total
