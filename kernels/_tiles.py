"""Tiles inside Pallas kernels: sides, masked loads and stores.

Only tiles with power-of-two sides of at least 16 can be multiplied on the tensor cores, so every width is padded to
such a size in registers: the padded columns are never read from memory, they are zeros.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels._triton_lowering import plt

LOG2_E = math.log2(math.e)
# Where a running maximum starts: finite, so that a difference of two starts is 0 and not NaN.
LOWEST = -1e30
SMALLEST_SIDE = 16


def next_power_of_2(number: int) -> int:
    """Return the smallest power of two that is not below `number`."""
    return 1 << (number - 1).bit_length()


def padded_width(width: int) -> int:
    """Return the power of two, at least 16, that a tile of `width` columns is padded to."""
    return max(SMALLEST_SIDE, next_power_of_2(width))


def load_masked(view: Any, mask: jax.Array | None, other: float = 0.0) -> jax.Array:
    """Load what `view` refers to, with `other` where `mask` is false; None loads all of it."""
    return plt.load(view) if mask is None else plt.load(view, mask=mask, other=other)


def _tile_mask(shape: tuple[int, int], width: int, valid: jax.Array | None) -> jax.Array | None:
    mask = None if valid is None else jnp.broadcast_to(valid[:, None], shape)
    if width != shape[1]:
        columns = jnp.broadcast_to((jnp.arange(shape[1], dtype=jnp.int32) < width)[None, :], shape)
        mask = columns if mask is None else mask & columns
    return mask


def load_rows(
    ref: Any, start: Any, rows: int, width: int, valid: jax.Array | None, part: tuple[jax.Array, ...] = ()
) -> jax.Array:
    """Load a `[rows, padded width]` tile; columns beyond `width` and rows that are not valid are zeros."""
    mask = _tile_mask((rows, padded_width(width)), width, valid)
    return load_masked(ref.at[(*part, pl.ds(start, rows), slice(None))], mask)


def store_rows(ref: Any, start: Any, value: jax.Array, width: int, valid: jax.Array | None) -> None:
    """Store the real columns of the valid rows of a `[rows, padded width]` tile."""
    plt.store(
        ref.at[pl.ds(start, value.shape[0]), :],
        value.astype(ref.dtype),
        mask=_tile_mask(value.shape, width, valid),
    )


def load_vector(ref: Any, start: Any, rows: int, valid: jax.Array | None, other: float) -> jax.Array:
    """Load `[rows]` statistics, with `other` where not valid."""
    return load_masked(ref.at[pl.ds(start, rows)], valid, other)


def store_vector(ref: Any, start: Any, value: jax.Array, valid: jax.Array | None) -> None:
    """Store the valid entries of `[rows]` statistics."""
    plt.store(ref.at[pl.ds(start, value.shape[0])], value, mask=valid)


def inside(shape: tuple[int, int], extent: tuple[Any, Any]) -> jax.Array | None:
    """Return which elements lie in the first `extent` rows and columns, None if all do."""
    mask = None
    for axis, (size, left) in enumerate(zip(shape, extent, strict=True)):
        if isinstance(left, int) and left >= size:
            continue
        first = jax.lax.broadcasted_iota(jnp.int32, shape, axis) < left
        mask = first if mask is None else mask & first
    return mask


def _block(ref: Any, start: tuple[Any, Any], shape: tuple[int, int]) -> Any:
    return ref.at[pl.ds(start[0], shape[0]), pl.ds(start[1], shape[1])]


def load_block(ref: Any, start: tuple[Any, Any], shape: tuple[int, int], extent: tuple[Any, Any]) -> jax.Array:
    """Load a tile of `shape` from `start` on, with zeros beyond its first `extent` rows and columns."""
    return load_masked(_block(ref, start, shape), inside(shape, extent))


def store_block(ref: Any, start: tuple[Any, Any], value: jax.Array, extent: tuple[Any, Any]) -> None:
    """Store the first `extent` rows and columns of a tile from `start` on."""
    plt.store(_block(ref, start, value.shape), value.astype(ref.dtype), mask=inside(value.shape, extent))
