"""The one place that imports Mosaic GPU, Pallas' compiler for Hopper; what it takes and how its tiles lie in memory.

Its interface changes with every release of JAX. Before 0.11 it has no interpreter for a CPU.
"""

import jax
import jax.numpy as jnp
from jax import lax

from kernels._target import Target
from kernels._tile_products import is_split, stored_parts

try:
    from jax.experimental.pallas import mosaic_gpu as plgpu
except ImportError:
    plgpu = None

OLDEST_JAX = (0, 11)
# The machine code of 0.12 is made by libnvJitLink, which ignores how warpgroups share the registers out: the gradients
# of the mixer's operands spill 1136 bytes a thread in the place of 200. So it takes the place of no other kernel there.
NEWEST_JAX_TO_TAKE_OVER = (0, 11)
# The warpgroup products of compute capability 9 are on no other.
CAPABILITY = 9
# Rows of one warpgroup's product, and bytes of the widest swizzle.
WARPGROUP_ROWS = 64
_WIDEST_SWIZZLE = 128
# Registers of a thread that only starts copies.
COPYING_REGISTERS = 40


def why_unavailable() -> str | None:
    """Say why this JAX cannot compile the kernels, None where it can."""
    if plgpu is None:
        return f"jax {jax.__version__} does not have"
    if jax.__version_info__[:2] < OLDEST_JAX:
        return f"jax {jax.__version__} has in an older form, without an interpreter"
    return None


def takes_over(target: Target) -> bool:
    """Return whether the kernels take the place of Triton's on the target, in calls for which they were faster."""
    hopper = target.platform == "cuda" and target.capability[0] == CAPABILITY
    return hopper and why_unavailable() is None and jax.__version_info__[:2] <= NEWEST_JAX_TO_TAKE_OVER


def interpreter(target: Target) -> object:
    """Return what a kernel's `interpret` is on the target."""
    return False if target.compiled else plgpu.InterpretGPUParams()


def swizzled(width: int, dtype: jax.typing.DTypeLike, length: int) -> tuple[object, object]:
    """Return how a tile with rows of `width` numbers lies in shared memory, so that products can read it.

    Products over either side of a tile, of which the shorter has at least `length`, take whole swizzles.
    """
    item = jnp.dtype(dtype).itemsize
    swizzle = min(_WIDEST_SWIZZLE, width * item, length * item)
    return plgpu.TilingTransform((8, swizzle // item)), plgpu.SwizzleTransform(swizzle)


def split(x: jax.Array) -> tuple[jax.Array, ...]:
    """Return the float16 parts whose sum is float32 `x`, within their range, or `x` as its own only part."""
    return tuple(stored_parts(x, read_once=False)) if is_split(x.dtype) else (x,)


def split_wide(x: jax.Array) -> tuple[jax.Array, ...]:
    """Return the bfloat16 parts whose sum is `x`: three of float32, in all of its range, one of bfloat16."""
    if x.dtype == jnp.bfloat16:
        return (x,)
    parts = []
    for _ in range(3):
        # Not a conversion there and back, which XLA takes for the identity.
        parts.append(lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7))
        x = x - parts[-1]
    return tuple(part.astype(jnp.bfloat16) for part in parts)


def split_in_kernel(x: jax.Array, dtype: jax.typing.DTypeLike, count: int) -> tuple[jax.Array, ...]:
    """Return `count` parts of `dtype` of a float32 tile in registers."""
    parts = []
    for _ in range(count):
        parts.append(x.astype(dtype))
        x = x - parts[-1].astype(jnp.float32)
    return tuple(parts)


def orders(count: int) -> list[tuple[int, int]]:
    """Return which parts of two operands are multiplied, the smallest first: three of two parts, six of three."""
    return [(i, order - i) for order in reversed(range(count)) for i in range(order + 1)]
