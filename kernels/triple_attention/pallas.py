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

from kernels._pallas import Operand, Output, pallas_call
from kernels._target import Target
from kernels._tile_products import Products
from kernels._tiles import load_block, store_block
from kernels.triple_attention.table import Blocks, KernelBlocks
from kernels.triple_attention.tiling import Tiling

Dot = Callable[[jax.Array, jax.Array, tuple[int, int]], jax.Array]


def _split_number(number: Any, *sizes: int) -> list[Any]:
    """Return the digits of a program's number in mixed radix, the fastest first."""
    digits = []
    for size in sizes:
        digits.append(jax.lax.rem(number, jnp.int32(size)))
        number = jax.lax.div(number, jnp.int32(size))
    return [*digits, number]


def _accumulate_kernel(inputs: Any, partial_ref: Any, *, tiling: Tiling, dot: Dot) -> None:
    """Sum a_i b_l x_j over one split of the points, for one chunk of l."""
    a_ref, b_ref, x_ref = inputs
    _, chunk, split, _ = _split_number(pl.program_id(0), tiling.heads, tiling.chunks, tiling.splits)
    columns_left = tiling.width - chunk * tiling.slices if tiling.width % tiling.slices else tiling.slices

    def tile(index: jax.Array, total: jax.Array) -> jax.Array:
        start = index * tiling.rows
        rows_left = tiling.points - (split * tiling.tiles_per_split + index) * tiling.rows
        if tiling.splits * tiling.tiles_per_split * tiling.rows == tiling.points:
            rows_left = tiling.rows
        a = load_block(a_ref, (start, 0), (tiling.rows, tiling.padded_width), (rows_left, tiling.width))
        b = load_block(b_ref, (start, 0), (tiling.rows, tiling.slices), (rows_left, columns_left))
        x = load_block(x_ref, (start, 0), (tiling.rows, tiling.padded_channels), (rows_left, tiling.channels))
        pairs = (b[:, :, None] * a[:, None, :]).reshape(tiling.rows, tiling.slices * tiling.padded_width)
        return total + dot(pairs, x, (0, 0))

    total = jnp.zeros((tiling.slices * tiling.padded_width, tiling.padded_channels), jnp.float32)
    partial_ref[...] = jax.lax.fori_loop(0, tiling.tiles_per_split, tile, total)


def _rows_left(tiling: Tiling) -> Any:
    """Return how many of the program's rows exist."""
    if tiling.points % tiling.rows == 0:
        return tiling.rows
    _, tile, _ = _split_number(pl.program_id(0), tiling.heads, tiling.tiles)
    return tiling.points - tile * tiling.rows


def _read_kernel(inputs: Any, y_ref: Any, *, tiling: Tiling, dot: Dot) -> None:
    """Return Σ_l b_l Σ_i a_i S_ilj for one tile of points; the state is `[I, (l, j)]`."""
    a_ref, b_ref, state_ref = inputs
    rows_left, slices, side = _rows_left(tiling), tiling.slices, tiling.padded_channels
    a = load_block(a_ref, (0, 0), (tiling.rows, tiling.padded_width), (rows_left, tiling.width))

    def chunk(index: jax.Array, y: jax.Array) -> jax.Array:
        first = index * slices
        b = load_block(b_ref, (0, first), (tiling.rows, slices), (rows_left, _columns_left(tiling, first)))
        state = state_ref[:, pl.ds(first * side, slices * side)]
        products = dot(a, state, (1, 0)).reshape(tiling.rows, slices, side)
        return y + jnp.sum(products * b.astype(jnp.float32)[:, :, None], axis=1)

    y = jax.lax.fori_loop(0, tiling.chunks, chunk, jnp.zeros((tiling.rows, side), jnp.float32))
    store_block(y_ref, (0, 0), y, (rows_left, tiling.channels))


def _pair_kernel(inputs: Any, outputs: Any, *, tiling: Tiling, dot: Dot) -> None:
    """Return Σ_jl S_jli x_j b_l and Σ_ij S_jli x_j a_i for one tile of points; the state is `[J, (l, i)]`."""
    (x_ref, a_ref, b_ref, state_ref), (da_ref, db_ref) = inputs, outputs
    rows_left, slices, side = _rows_left(tiling), tiling.slices, tiling.padded_width
    x = load_block(x_ref, (0, 0), (tiling.rows, tiling.padded_channels), (rows_left, tiling.channels))
    a = load_block(a_ref, (0, 0), (tiling.rows, side), (rows_left, tiling.width)).astype(jnp.float32)

    def chunk(index: jax.Array, da: jax.Array) -> jax.Array:
        first = index * slices
        extent = (rows_left, _columns_left(tiling, first))
        b = load_block(b_ref, (0, first), (tiling.rows, slices), extent).astype(jnp.float32)
        state = state_ref[:, pl.ds(first * side, slices * side)]
        products = dot(x, state, (1, 0)).reshape(tiling.rows, slices, side)
        store_block(db_ref, (0, first), jnp.sum(products * a[:, None, :], axis=2), extent)
        return da + jnp.sum(products * b[:, :, None], axis=1)

    da = jax.lax.fori_loop(0, tiling.chunks, chunk, jnp.zeros((tiling.rows, side), jnp.float32))
    store_block(da_ref, (0, 0), da, (rows_left, tiling.width))


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
    target: Target

    def accumulate(self, a: jax.Array, b: jax.Array, x: jax.Array) -> jax.Array:
        """See `Contractions.accumulate`."""
        tiling = Tiling.create(self.blocks.accumulate, a.shape, x.shape[-1])
        operand_specs, partial_spec = _accumulate_specs(tiling)
        partial = self._launch(
            _accumulate_kernel,
            tiling,
            self.blocks.accumulate,
            (tiling.batch * tiling.splits * tiling.chunks * tiling.heads,),
            tuple(map(Operand, (a, b, x), operand_specs)),
            Output(tiling.partial_shape.shape, jnp.float32, partial_spec),
        )
        return tiling.merge(partial)

    def read(self, a: jax.Array, b: jax.Array, state: jax.Array) -> jax.Array:
        """See `Contractions.read`."""
        tiling = Tiling.create(self.blocks.read, a.shape, state.shape[3])
        specs, matrix = _Specs(tiling), tiling.rows_of_width(state, a.dtype)
        wide, sliced = specs.points(tiling.padded_width), specs.points(tiling.padded_slices)
        inputs = (Operand(a, wide), Operand(b, sliced), Operand(matrix, specs.state(matrix)))
        output = Output((*a.shape[:3], tiling.channels), a.dtype, specs.points(tiling.padded_channels))
        return self._launch(_read_kernel, tiling, self.blocks.read, specs.grid, inputs, output)

    def pair(self, x: jax.Array, a: jax.Array, b: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        """See `Contractions.pair`."""
        tiling = Tiling.create(self.blocks.pair, a.shape, x.shape[-1])
        specs, matrix = _Specs(tiling), tiling.rows_of_channels(state, a.dtype)
        wide, sliced = specs.points(tiling.padded_width), specs.points(tiling.padded_slices)
        values = Operand(x, specs.points(tiling.padded_channels))
        inputs = (values, Operand(a, wide), Operand(b, sliced), Operand(matrix, specs.state(matrix)))
        outputs = (Output(a.shape, a.dtype, wide), Output(a.shape, a.dtype, sliced))
        return self._launch(_pair_kernel, tiling, self.blocks.pair, specs.grid, inputs, outputs)

    def _launch(
        self, kernel: Any, tiling: Tiling, blocks: Blocks, grid: tuple[int, ...], inputs: Any, outputs: Any
    ) -> Any:
        dot = functools.partial(Products(self.target.compiled).dot, exact=blocks.exact)
        return pallas_call(
            functools.partial(kernel, tiling=tiling, dot=dot),
            target=self.target,
            name="triple" + kernel.__name__.removesuffix("_kernel"),
            grid=grid,
            inputs=inputs,
            outputs=outputs,
            warps=blocks.warps,
            stages=blocks.stages,
        )
