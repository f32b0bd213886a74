"""The contractions of triple attention as Pallas kernels (README.md, "Kernels").

Programs are numbered along one grid axis with heads varying fastest, so that programs which run at the same time read
neighbouring heads of the same points: at small head widths these share memory sectors.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels._pallas import pallas_call
from kernels.triple_attention.dispatch import KernelBlocks
from kernels.triple_attention.pallas_tiles import dot, load, store
from kernels.triple_attention.tiling import Tiling

IndexMap = Callable[[Any], tuple[Any, ...]]


def _split_number(number: Any, *sizes: int) -> list[Any]:
    """Return the digits of a program's number in mixed radix, the fastest first."""
    digits = []
    for size in sizes:
        digits.append(jax.lax.rem(number, jnp.int32(size)))
        number = jax.lax.div(number, jnp.int32(size))
    return [*digits, number]


def _accumulate_kernel(a_ref: Any, b_ref: Any, x_ref: Any, partial_ref: Any, *, tiling: Tiling, exact: str) -> None:
    """Sum a_i b_l x_j over one split of the points, for one chunk of l."""
    _, chunk, split, _ = _split_number(pl.program_id(0), tiling.heads, tiling.chunks, tiling.splits)
    columns_left = tiling.width - chunk * tiling.slices if tiling.width % tiling.slices else tiling.slices

    def tile(index: jax.Array, total: jax.Array) -> jax.Array:
        start = index * tiling.rows
        rows_left = tiling.points - (split * tiling.tiles_per_split + index) * tiling.rows
        if tiling.splits * tiling.tiles_per_split * tiling.rows == tiling.points:
            rows_left = tiling.rows
        a = load(a_ref, (start, 0), (tiling.rows, tiling.padded_width), (rows_left, tiling.width))
        b = load(b_ref, (start, 0), (tiling.rows, tiling.slices), (rows_left, columns_left))
        x = load(x_ref, (start, 0), (tiling.rows, tiling.padded_channels), (rows_left, tiling.channels))
        pairs = (b[:, :, None] * a[:, None, :]).reshape(tiling.rows, tiling.slices * tiling.padded_width)
        return total + dot(pairs, x, (0, 0), exact)

    total = jnp.zeros((tiling.slices * tiling.padded_width, tiling.padded_channels), jnp.float32)
    partial_ref[...] = jax.lax.fori_loop(0, tiling.tiles_per_split, tile, total)


def _rows_left(tiling: Tiling) -> Any:
    """Return how many of the program's rows exist."""
    if tiling.points % tiling.rows == 0:
        return tiling.rows
    _, tile, _ = _split_number(pl.program_id(0), tiling.heads, tiling.tiles)
    return tiling.points - tile * tiling.rows


def _read_kernel(a_ref: Any, b_ref: Any, state_ref: Any, y_ref: Any, *, tiling: Tiling, exact: str) -> None:
    """Return Σ_l b_l Σ_i a_i S_ilj for one tile of points; the state is `[I, (l, j)]`."""
    rows_left, slices, side = _rows_left(tiling), tiling.slices, tiling.padded_channels
    a = load(a_ref, (0, 0), (tiling.rows, tiling.padded_width), (rows_left, tiling.width))

    def chunk(index: jax.Array, y: jax.Array) -> jax.Array:
        first = index * slices
        b = load(b_ref, (0, first), (tiling.rows, slices), (rows_left, _columns_left(tiling, first)))
        state = state_ref[:, pl.ds(first * side, slices * side)]
        products = dot(a, state, (1, 0), exact).reshape(tiling.rows, slices, side)
        return y + jnp.sum(products * b.astype(jnp.float32)[:, :, None], axis=1)

    y = jax.lax.fori_loop(0, tiling.chunks, chunk, jnp.zeros((tiling.rows, side), jnp.float32))
    store(y_ref, (0, 0), y, (rows_left, tiling.channels))


def _pair_kernel(
    x_ref: Any, a_ref: Any, b_ref: Any, state_ref: Any, da_ref: Any, db_ref: Any, *, tiling: Tiling, exact: str
) -> None:
    """Return Σ_jl S_jli x_j b_l and Σ_ij S_jli x_j a_i for one tile of points; the state is `[J, (l, i)]`."""
    rows_left, slices, side = _rows_left(tiling), tiling.slices, tiling.padded_width
    x = load(x_ref, (0, 0), (tiling.rows, tiling.padded_channels), (rows_left, tiling.channels))
    a = load(a_ref, (0, 0), (tiling.rows, side), (rows_left, tiling.width)).astype(jnp.float32)

    def chunk(index: jax.Array, da: jax.Array) -> jax.Array:
        first = index * slices
        extent = (rows_left, _columns_left(tiling, first))
        b = load(b_ref, (0, first), (tiling.rows, slices), extent).astype(jnp.float32)
        state = state_ref[:, pl.ds(first * side, slices * side)]
        products = dot(x, state, (1, 0), exact).reshape(tiling.rows, slices, side)
        store(db_ref, (0, first), jnp.sum(products * a[:, None, :], axis=2), extent)
        return da + jnp.sum(products * b[:, :, None], axis=1)

    da = jax.lax.fori_loop(0, tiling.chunks, chunk, jnp.zeros((tiling.rows, side), jnp.float32))
    store(da_ref, (0, 0), da, (rows_left, tiling.width))


def _columns_left(tiling: Tiling, first: Any) -> Any:
    return tiling.slices if tiling.width % tiling.slices == 0 else tiling.width - first


@dataclass(frozen=True)
class _Specs:
    """Which part of each array a program sees, where a program has one tile of points and all of a state."""

    tiling: Tiling

    @property
    def grid(self) -> tuple[int]:
        return (self.tiling.batch * self.tiling.tiles * self.tiling.heads,)

    def _place(self, number: Any) -> list[Any]:
        return _split_number(number, self.tiling.heads, self.tiling.tiles)

    def points(self, columns: int) -> pl.BlockSpec:
        """Return the specification of `[B, N, H, D]`, with `columns` columns."""

        def index(number: Any) -> tuple[Any, ...]:
            head, tile, sample = self._place(number)
            return sample, tile, head, 0

        return pl.BlockSpec((None, self.tiling.rows, None, columns), index)

    def state(self, matrix: jax.Array) -> pl.BlockSpec:
        """Return the specification of a state in matrix form."""

        def index(number: Any) -> tuple[Any, ...]:
            head, _, sample = self._place(number)
            return sample, head, 0, 0

        return pl.BlockSpec((None, None, *matrix.shape[2:]), index)


def _accumulate_specs(tiling: Tiling) -> tuple[list[pl.BlockSpec], pl.BlockSpec]:
    """Return the specifications of a, b, x and of the partial states."""
    rows = tiling.tiles_per_split * tiling.rows

    def place(number: Any) -> list[Any]:
        return _split_number(number, tiling.heads, tiling.chunks, tiling.splits)

    def whole(number: Any) -> tuple[Any, ...]:
        head, _, split, sample = place(number)
        return sample, split, head, 0

    def chunked(number: Any) -> tuple[Any, ...]:
        head, chunk, split, sample = place(number)
        return sample, split, head, chunk

    def partial(number: Any) -> tuple[Any, ...]:
        head, chunk, split, sample = place(number)
        return sample, head, split, chunk, 0

    block = (None, None, None, tiling.slices * tiling.padded_width, tiling.padded_channels)
    sides = ((tiling.padded_width, whole), (tiling.slices, chunked), (tiling.padded_channels, whole))
    operands = [pl.BlockSpec((None, rows, None, columns), index) for columns, index in sides]
    return operands, pl.BlockSpec(block, partial)


@dataclass(frozen=True)
class PallasContractions:
    """Contractions whose launches are `blocks`."""

    blocks: KernelBlocks

    def accumulate(self, a: jax.Array, b: jax.Array, x: jax.Array) -> jax.Array:
        """See `Contractions.accumulate`."""
        blocks = self.blocks.accumulate
        tiling = Tiling.create(blocks, a.shape, x.shape[-1])
        operand_specs, partial_spec = _accumulate_specs(tiling)
        (partial,) = pallas_call(
            functools.partial(_accumulate_kernel, tiling=tiling, exact=blocks.exact),
            name="triple_accumulate",
            grid=(tiling.batch * tiling.splits * tiling.chunks * tiling.heads,),
            in_specs=operand_specs,
            out_specs=[partial_spec],
            out_shape=[tiling.partial_shape],
            num_warps=blocks.warps,
            num_stages=blocks.stages,
        )(a, b, x)
        return tiling.merge(partial)

    def read(self, a: jax.Array, b: jax.Array, state: jax.Array) -> jax.Array:
        """See `Contractions.read`."""
        blocks = self.blocks.read
        tiling = Tiling.create(blocks, a.shape, state.shape[3])
        specs, matrix = _Specs(tiling), tiling.rows_of_width(state, a.dtype)
        (y,) = pallas_call(
            functools.partial(_read_kernel, tiling=tiling, exact=blocks.exact),
            name="triple_read",
            grid=specs.grid,
            in_specs=[specs.points(tiling.padded_width), specs.points(tiling.padded_slices), specs.state(matrix)],
            out_specs=[specs.points(tiling.padded_channels)],
            out_shape=[jax.ShapeDtypeStruct((*a.shape[:3], tiling.channels), a.dtype)],
            num_warps=blocks.warps,
            num_stages=blocks.stages,
        )(a, b, matrix)
        return y

    def pair(self, x: jax.Array, a: jax.Array, b: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        """See `Contractions.pair`."""
        blocks = self.blocks.pair
        tiling = Tiling.create(blocks, a.shape, x.shape[-1])
        specs, matrix = _Specs(tiling), tiling.rows_of_channels(state, a.dtype)
        wide, sliced = specs.points(tiling.padded_width), specs.points(tiling.padded_slices)
        da, db = pallas_call(
            functools.partial(_pair_kernel, tiling=tiling, exact=blocks.exact),
            name="triple_pair",
            grid=specs.grid,
            in_specs=[specs.points(tiling.padded_channels), wide, sliced, specs.state(matrix)],
            out_specs=[wide, sliced],
            out_shape=[jax.ShapeDtypeStruct(a.shape, a.dtype)] * 2,
            num_warps=blocks.warps,
            num_stages=blocks.stages,
        )(x, a, b, matrix)
        return da, db
