"""The three contractions of triple attention as Triton kernels (README.md, "Kernels").

A program sees one head. Points are read from `[B, N, H, D]` with masks, so that widths that are no power of two and a
ragged last tile cost no copies; every state that is read or written is padded to whole tiles. All sums are float32.
"""

# ruff: noqa: ANN001, ANN201 -- Triton takes pointers without annotations
# `no_type_check` keeps the suite's annotation checks from wrapping the functions, whose source Triton compiles.

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def _load(base, rows, columns, points, width, stride):
    """Load `[rows, columns]` of one head; what lies outside the array is zero."""
    inside = (rows < points)[:, None] & (columns < width)[None, :]
    return tl.load(base + rows.to(tl.int64)[:, None] * stride + columns[None, :], mask=inside, other=0.0)


@triton.jit
@no_type_check
def _store(base, value, rows, columns, points, width, stride):
    """Store the part of `[rows, columns]` that lies inside the array."""
    inside = (rows < points)[:, None] & (columns < width)[None, :]
    address = base + rows.to(tl.int64)[:, None] * stride + columns[None, :]
    tl.store(address, value.to(base.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def accumulate_kernel(
    a_ref,
    b_ref,
    x_ref,
    state_ref,
    points: tl.constexpr,
    heads: tl.constexpr,
    width: tl.constexpr,
    channels: tl.constexpr,
    rows: tl.constexpr,
    slices: tl.constexpr,
    padded_width: tl.constexpr,
    padded_channels: tl.constexpr,
    splits: tl.constexpr,
    tiles_per_split: tl.constexpr,
    precision: tl.constexpr,
):
    """Sum a_i b_l x_j over one split of the points, for `slices` values of l: `[slices * I, J]`."""
    chunks: tl.constexpr = (width + slices - 1) // slices
    head, rest = tl.program_id(0) % heads, tl.program_id(0) // heads
    first, rest = rest % chunks * slices, rest // chunks
    split, sample = rest % splits, rest // splits
    start = sample.to(tl.int64) * points * heads
    a_ref += start * width + head * width
    b_ref += start * width + head * width
    x_ref += start * channels + head * channels
    i, j = tl.arange(0, padded_width), tl.arange(0, padded_channels)
    total = tl.zeros((slices * padded_width, padded_channels), tl.float32)
    for tile in range(tiles_per_split):
        n = (split * tiles_per_split + tile) * rows + tl.arange(0, rows)
        a = _load(a_ref, n, i, points, width, heads * width)
        b = _load(b_ref, n, first + tl.arange(0, slices), points, width, heads * width)
        x = _load(x_ref, n, j, points, channels, heads * channels)
        pairs = tl.reshape(b[:, :, None] * a[:, None, :], (rows, slices * padded_width))
        total = tl.dot(tl.trans(pairs), x, total, input_precision=precision)
    block = ((sample * heads + head).to(tl.int64) * splits + split) * chunks * slices + first
    r = tl.arange(0, slices * padded_width)
    tl.store(state_ref + (block * padded_width + r[:, None]) * padded_channels + j[None, :], total)


@triton.jit
@no_type_check
def read_kernel(
    a_ref,
    b_ref,
    state_ref,
    y_ref,
    points: tl.constexpr,
    heads: tl.constexpr,
    width: tl.constexpr,
    channels: tl.constexpr,
    rows: tl.constexpr,
    slices: tl.constexpr,
    padded_width: tl.constexpr,
    padded_channels: tl.constexpr,
    precision: tl.constexpr,
):
    """Return Σ_l b_l Σ_i a_i S_ilj for one tile of points; the state is `[I, L * J]`."""
    tiles: tl.constexpr = (points + rows - 1) // rows
    head, rest = tl.program_id(0) % heads, tl.program_id(0) // heads
    tile, sample = rest % tiles, rest // tiles
    start = sample.to(tl.int64) * points * heads
    a_ref += start * width + head * width
    b_ref += start * width + head * width
    y_ref += start * channels + head * channels
    padded_slices: tl.constexpr = (width + slices - 1) // slices * slices
    columns: tl.constexpr = padded_slices * padded_channels
    state_ref += (sample * heads + head).to(tl.int64) * padded_width * columns
    n = tile * rows + tl.arange(0, rows)
    i, j = tl.arange(0, padded_width), tl.arange(0, padded_channels)
    a = _load(a_ref, n, i, points, width, heads * width)
    y = tl.zeros((rows, padded_channels), tl.float32)
    for first in range(0, padded_slices, slices):
        b = _load(b_ref, n, first + tl.arange(0, slices), points, width, heads * width).to(tl.float32)
        c = first * padded_channels + tl.arange(0, slices * padded_channels)
        state = tl.load(state_ref + i[:, None] * columns + c[None, :])
        products = tl.dot(a, state, input_precision=precision)
        products = tl.reshape(products, (rows, slices, padded_channels))
        y += tl.sum(products * b[:, :, None], axis=1)
    _store(y_ref, y, n, j, points, channels, heads * channels)


@triton.jit
@no_type_check
def pair_kernel(
    x_ref,
    a_ref,
    b_ref,
    state_ref,
    da_ref,
    db_ref,
    points: tl.constexpr,
    heads: tl.constexpr,
    width: tl.constexpr,
    channels: tl.constexpr,
    rows: tl.constexpr,
    slices: tl.constexpr,
    padded_width: tl.constexpr,
    padded_channels: tl.constexpr,
    precision: tl.constexpr,
):
    """Return Σ_jl S_jli x_j b_l and Σ_ij S_jli x_j a_i for one tile of points; the state is `[J, L * I]`."""
    tiles: tl.constexpr = (points + rows - 1) // rows
    head, rest = tl.program_id(0) % heads, tl.program_id(0) // heads
    tile, sample = rest % tiles, rest // tiles
    start = sample.to(tl.int64) * points * heads
    x_ref += start * channels + head * channels
    a_ref += start * width + head * width
    b_ref += start * width + head * width
    da_ref += start * width + head * width
    db_ref += start * width + head * width
    padded_slices: tl.constexpr = (width + slices - 1) // slices * slices
    columns: tl.constexpr = padded_slices * padded_width
    state_ref += (sample * heads + head).to(tl.int64) * padded_channels * columns
    n = tile * rows + tl.arange(0, rows)
    i, j = tl.arange(0, padded_width), tl.arange(0, padded_channels)
    x = _load(x_ref, n, j, points, channels, heads * channels)
    a = _load(a_ref, n, i, points, width, heads * width).to(tl.float32)
    da = tl.zeros((rows, padded_width), tl.float32)
    for first in range(0, padded_slices, slices):
        columns_of_b = first + tl.arange(0, slices)
        b = _load(b_ref, n, columns_of_b, points, width, heads * width).to(tl.float32)
        c = first * padded_width + tl.arange(0, slices * padded_width)
        state = tl.load(state_ref + j[:, None] * columns + c[None, :])
        products = tl.dot(x, state, input_precision=precision)
        products = tl.reshape(products, (rows, slices, padded_width))
        da += tl.sum(products * b[:, :, None], axis=1)
        db = tl.sum(products * a[:, None, :], axis=2)
        _store(db_ref, db, n, columns_of_b, points, width, heads * width)
    _store(da_ref, da, n, i, points, width, heads * width)
