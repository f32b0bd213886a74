"""Row tiles inside the kernels: a tile of `[rows, C]` is a tuple of column chunks whose sizes are powers of two.

Sides, masks and loads are those of all operations (`kernels._tiles`). A tile there is one block as wide as a head;
layers are wider: large widths are cut, which keeps one weight block within shared memory, and others are padded (80
becomes 128: two blocks of 64 and 16 compile to three times the instructions). Parameters lie in stacks, beside others
that a block may not overrun into. With `channel_axis` 0 a chunk is held as `[size, rows]`.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl

from kernels._tiles import inside, load_masked, padded_width
from kernels._triton_lowering import plt

Ref = Any  # a Pallas reference
Tile = tuple[Array, ...]


@dataclass(frozen=True)
class Chunk:
    """Columns `start` to `start + valid` of an array, in a block of `size` columns."""

    start: int
    size: int
    valid: int

    @property
    def partial(self) -> bool:
        """Whether the block overruns the array, so that it must be masked."""
        return self.valid < self.size


def column_chunks(width: int, largest: int, start: int = 0) -> tuple[Chunk, ...]:
    """Cut `width` columns into blocks of `largest` and one of the smallest power of two that holds the rest."""
    if width > largest:
        return (Chunk(start, largest, largest), *column_chunks(width - largest, largest, start + largest))
    return (Chunk(start, padded_width(width), width),)


def padded(width: int, largest: int) -> int:
    """Return the columns that the blocks of a width take together."""
    return sum(chunk.size for chunk in column_chunks(width, largest))


@dataclass(frozen=True)
class Rows:
    """The rows `start` to `start + height` of arrays with `count` rows; `masked` if some tile overruns the end."""

    start: Array | int
    height: int
    count: int
    masked: bool

    def mask(self, chunk: Chunk) -> Array | None:
        """Return the mask of valid elements of a block, or None when all are."""
        return inside((self.height, chunk.size), (self.count - self.start if self.masked else self.height, chunk.valid))

    def view(self, ref: Ref, chunk: Chunk) -> Ref:
        """Return the block of `ref` in these rows."""
        return _view(ref, self.start, self.height, chunk, chunk.partial)


def load_rows(ref: Ref, rows: Rows, chunks: tuple[Chunk, ...], channel_axis: int) -> Tile:
    """Read a tile as float32, with zeros where it overruns the array."""
    blocks = [load_masked(rows.view(ref, chunk), rows.mask(chunk)) for chunk in chunks]
    return tuple((block if channel_axis == 1 else block.T).astype(jnp.float32) for block in blocks)


def store_rows(ref: Ref, tile: Tile, rows: Rows, chunks: tuple[Chunk, ...], channel_axis: int) -> None:
    """Write a tile in the dtype of `ref`, leaving out what overruns the array."""
    for values, chunk in zip(tile, chunks, strict=True):
        block = values.astype(ref.dtype)
        plt.store(rows.view(ref, chunk), block if channel_axis == 1 else block.T, mask=rows.mask(chunk))


@dataclass(frozen=True)
class Part:
    """A parameter in a stack `[rows, width]` of several: a matrix from row `start` on, or a vector in that row."""

    stack: Ref
    start: int
    shape: tuple[int, ...]


def load_matrix(matrix: Part, row_chunk: Chunk, chunk: Chunk) -> Array:
    """Read one block of a `[C_in, C_out]` matrix, zeros beyond it."""
    start, overruns = matrix.start + row_chunk.start, row_chunk.partial or chunk.partial
    view = _view(matrix.stack, start, row_chunk.size, chunk, overruns)
    return load_masked(view, inside((row_chunk.size, chunk.size), (row_chunk.valid, chunk.valid)))


def load_vector(vector: Part, chunk: Chunk, channel_axis: int) -> Array:
    """Read one block of a `[C]` vector as float32, zeros beyond it, with a row axis of size 1 for broadcasting."""
    row = jnp.int32(vector.start)
    if chunk.partial:
        columns = lax.iota(jnp.int32, chunk.size)
        values = plt.load(vector.stack.at[row, chunk.start + columns], mask=columns < chunk.valid, other=0.0)
    else:
        values = plt.load(vector.stack.at[row, pl.ds(chunk.start, chunk.size)])
    return jnp.expand_dims(values.astype(jnp.float32), 1 - channel_axis)


def _view(ref: Ref, start: Array | int, height: int, chunk: Chunk, overruns: bool) -> Ref:
    if not overruns:
        return ref.at[pl.ds(start, height), pl.ds(chunk.start, chunk.size)]
    # A static slice may not leave the array even where it is masked, so the block is addressed element by element.
    rows = start + lax.broadcasted_iota(jnp.int32, (height, 1), 0)
    return ref.at[rows, chunk.start + lax.broadcasted_iota(jnp.int32, (1, chunk.size), 1)]
