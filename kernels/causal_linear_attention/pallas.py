"""Causal linear attention in two Pallas kernels: sums of outer products, and causal mixing (README.md, "Kernels").

The grid is (heads x tiles of value columns, splits of the points, batch) with heads varying fastest, so that programs
which run at the same time read neighbouring heads of the same points.
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
from kernels._tiles import load_rows, padded_width, store_rows
from kernels.causal_linear_attention.recurrence import Backend
from kernels.causal_linear_attention.table import KernelBlocks
from kernels.causal_linear_attention.walk import Walk, existing, point_rows, split_states

Dot = Callable[[jax.Array, jax.Array, tuple[int, int]], jax.Array]


def _sums_kernel(inputs: Any, sums_ref: Any, *, walk: Walk, widths: tuple[int, int], dot: Dot) -> None:
    """Sum `a_n b_nᵀ` over one split."""
    (a_ref, b_ref), (width, columns) = inputs, widths
    split = pl.program_id(1)

    def step(tile: jax.Array, sums: jax.Array) -> jax.Array:
        start = tile * walk.block
        valid = walk.valid(start, split)
        a = load_rows(a_ref, start, walk.block, width, valid)
        b = load_rows(b_ref, start, walk.block, columns, valid)
        return sums + dot(a, b, (0, 0))

    zeros = jnp.zeros((padded_width(width), padded_width(columns)), jnp.float32)
    sums = jax.lax.fori_loop(0, walk.tiles(split), step, zeros)
    store_rows(sums_ref, 0, sums, columns, existing(width))


def _masked(weights: jax.Array, seen: jax.Array, values: jax.Array) -> jax.Array:
    """Return the weights `[t, τ]` of the values that are seen, rounded as their product takes them."""
    return jnp.where(seen, weights, 0.0).astype(values.dtype)


def _mix_kernel(
    inputs: Any, y_ref: Any, *, walk: Walk, widths: tuple[int, int], scale: float, reverse: bool, dot: Dot
) -> None:
    """Walk over one split with the state in registers; backwards in time if `reverse`."""
    (q_ref, k_ref, v_ref, start_ref), (width, columns) = inputs, widths
    split = pl.program_id(1)
    tiles = walk.tiles(split)
    rows = jnp.arange(walk.block, dtype=jnp.int32)
    seen = rows[:, None] <= rows[None, :] if reverse else rows[:, None] >= rows[None, :]

    def step(tile: jax.Array, state: jax.Array) -> jax.Array:
        start = (tiles - 1 - tile if reverse else tile) * walk.block
        valid = walk.valid(start, split)
        q = load_rows(q_ref, start, walk.block, width, valid)
        k = load_rows(k_ref, start, walk.block, width, valid)
        v = load_rows(v_ref, start, walk.block, columns, valid)
        y = dot(_masked(dot(q, k, (1, 1)), seen, v), v, (1, 0)) + dot(q, state.astype(q.dtype), (1, 0))
        store_rows(y_ref, start, scale * y, columns, valid)
        return state + dot(k, v, (0, 0))

    # Without the scale a sum goes on in the registers of the product that adds to it.
    state = load_rows(start_ref, 0, padded_width(width), columns, existing(width)) * (1.0 / scale)
    jax.lax.fori_loop(0, tiles, step, state)


def _pair_kernel(inputs: Any, outputs: Any, *, walk: Walk, widths: tuple[int, int], scale: float, dot: Dot) -> None:
    """Walk backwards in time over one split: gradients of keys and values, which need the same state."""
    (q_ref, k_ref, v_ref, dy_ref, end_ref), (dk_ref, dv_ref) = inputs, outputs
    split, (width, columns) = pl.program_id(1), widths
    tiles = walk.tiles(split)
    rows = jnp.arange(walk.block, dtype=jnp.int32)
    later = rows[:, None] <= rows[None, :]

    def step(tile: jax.Array, state: jax.Array) -> jax.Array:
        start = (tiles - 1 - tile) * walk.block
        valid = walk.valid(start, split)
        q, k = (load_rows(ref, start, walk.block, width, valid) for ref in (q_ref, k_ref))
        v, dy = (load_rows(ref, start, walk.block, columns, valid) for ref in (v_ref, dy_ref))
        rounded = state.astype(q.dtype)
        dv = dot(_masked(dot(k, q, (1, 1)), later, dy), dy, (1, 0)) + dot(k, rounded, (1, 0))
        store_rows(dv_ref, start, scale * dv, columns, valid)
        dk = dot(_masked(dot(v, dy, (1, 1)), later, q), q, (1, 0)) + dot(v, rounded, (1, 1))
        store_rows(dk_ref, start, scale * dk, width, valid)
        return state + dot(q, dy, (0, 0))

    state = load_rows(end_ref, 0, padded_width(width), columns, existing(width)) * (1.0 / scale)
    jax.lax.fori_loop(0, tiles, step, state)


@dataclass(frozen=True)
class PallasBackend(Backend):
    """The two operations as kernels; states of widths that are no powers of two are padded in registers."""

    blocks: KernelBlocks
    target: Target

    @property
    def _dot(self) -> Dot:
        return functools.partial(Products(self.target.compiled).dot, exact=self.blocks.exact)

    def outer_sums(self, a: jax.Array, b: jax.Array) -> jax.Array:
        """Return `[B, H, splits, D, C]` float32."""
        batch, _, heads, width = a.shape
        columns = b.shape[-1]
        blocks, walk = self.blocks.sums, self._walk(a, self.blocks.sums.points)
        specs = [point_rows(walk, padded_width(x)) for x in (width, columns)]
        sums = pallas_call(
            functools.partial(_sums_kernel, walk=walk, widths=(width, columns), dot=self._dot),
            target=self.target,
            name="causal_linear_sums",
            grid=(heads, walk.splits, batch),
            inputs=(Operand(a, specs[0]), Operand(b, specs[1])),
            outputs=Output(
                (batch, heads, walk.splits, width, columns),
                jnp.float32,
                split_states(padded_width(width), padded_width(columns)),
            ),
            warps=blocks.warps,
            stages=blocks.stages,
        )
        return sums

    def mix(
        self, q: jax.Array, k: jax.Array, v: jax.Array, starts: jax.Array, scale: float, reverse: bool
    ) -> jax.Array:
        """Return `[B, N, H, C]` in the dtype of v."""
        batch, _, heads, width = q.shape
        blocks, walk = self.blocks.mix, self._walk(q, self.blocks.mix.points)
        # Tiles of columns that would not divide the width are one tile of all columns.
        tiles = v.shape[-1] // blocks.columns if v.shape[-1] % blocks.columns == 0 else 1
        columns = v.shape[-1] // tiles
        padded = padded_width(columns)
        tokens, values = point_rows(walk, padded_width(width), tiles), point_rows(walk, padded, tiles, tiled=True)
        states = split_states(padded_width(width), padded, tiles)
        kernel = functools.partial(
            _mix_kernel, walk=walk, widths=(width, columns), scale=scale, reverse=reverse, dot=self._dot
        )
        return pallas_call(
            kernel,
            target=self.target,
            name="causal_linear_mix",
            grid=(heads * tiles, walk.splits, batch),
            inputs=(Operand(q, tokens), Operand(k, tokens), Operand(v, values), Operand(starts, states)),
            outputs=Output(v.shape, v.dtype, values),
            warps=blocks.warps,
            stages=blocks.stages,
        )

    def pair(
        self, q: jax.Array, k: jax.Array, v: jax.Array, dy: jax.Array, ends: jax.Array, scale: float
    ) -> tuple[jax.Array, jax.Array]:
        """Return `[B, N, H, D]` and `[B, N, H, C]`, in one walk where the launch has one for it."""
        blocks = self.blocks.pair
        if blocks is None:
            return super().pair(q, k, v, dy, ends, scale)
        batch, _, heads, width = q.shape
        columns, walk = v.shape[-1], self._walk(q, blocks.points)
        keys, values = point_rows(walk, padded_width(width)), point_rows(walk, padded_width(columns))
        states = split_states(padded_width(width), padded_width(columns))
        return pallas_call(
            functools.partial(_pair_kernel, walk=walk, widths=(width, columns), scale=scale, dot=self._dot),
            target=self.target,
            name="causal_linear_pair",
            grid=(heads, walk.splits, batch),
            inputs=tuple(map(Operand, (q, k, v, dy, ends), (keys, keys, values, values, states))),
            outputs=(Output(k.shape, k.dtype, keys), Output(v.shape, v.dtype, values)),
            warps=blocks.warps,
            stages=blocks.stages,
        )

    def _walk(self, x: jax.Array, block: int) -> Walk:
        batch, points, heads, _ = x.shape
        return Walk(points, self.blocks.split_points(points, batch * heads), block)
