"""The Triton kernels of causal linear attention; import only where triton is installed.

Token arrays are `[B, N, H, D]`, states `[B, H, splits, D, C]`, both contiguous. Programs have the coordinates (head and
tile of value columns, split, sample). Sides of tiles are powers of two: whatever lies beyond an array reads as zero.
"""

# ruff: noqa: ANN001, ANN201 -- Triton takes pointers without annotations

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def _token_offsets(rows, columns, sample, head, points, heads: tl.constexpr, width: tl.constexpr):
    # 64-bit: an array of a million points of eight heads of 128 columns and a batch of two passes 2^31 entries.
    return ((sample.to(tl.int64) * points + rows[:, None]) * heads + head) * width + columns[None, :]


@triton.jit
@no_type_check
def _load(pointer, rows, columns, sample, head, points: tl.constexpr, heads: tl.constexpr, width: tl.constexpr):
    offsets = _token_offsets(rows, columns, sample, head, points, heads, width)
    return tl.load(pointer + offsets, mask=(rows[:, None] < points) & (columns[None, :] < width), other=0.0)


@triton.jit
@no_type_check
def _state_offsets(rows, columns, sample, head, heads: tl.constexpr, width: tl.constexpr, count: tl.constexpr):
    state = (sample.to(tl.int64) * heads + head) * tl.num_programs(1) + tl.program_id(1)
    return (state * width + rows[:, None]) * count + columns[None, :]


@triton.jit
@no_type_check
def sums_kernel(
    a_pointer,
    b_pointer,
    sums_pointer,
    points: tl.constexpr,
    heads: tl.constexpr,
    width: tl.constexpr,
    columns: tl.constexpr,
    split_points: tl.constexpr,
    block: tl.constexpr,
    padded_width: tl.constexpr,
    padded_columns: tl.constexpr,
    exact: tl.constexpr,
):
    """Sum `a_n b_nᵀ` over one split."""
    head, split, sample = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    features, values = tl.arange(0, padded_width), tl.arange(0, padded_columns)
    total = tl.zeros((padded_width, padded_columns), tl.float32)
    first = split * split_points
    for start in range(first, tl.minimum(first + split_points, points), block):
        rows = start + tl.arange(0, block)
        a = _load(a_pointer, rows, features, sample, head, points, heads, width)
        b = _load(b_pointer, rows, values, sample, head, points, heads, columns)
        total += tl.dot(tl.trans(a), b, input_precision=exact)
    offsets = _state_offsets(features, values, sample, head, heads, width, columns)
    tl.store(sums_pointer + offsets, total, mask=(features[:, None] < width) & (values[None, :] < columns))


@triton.jit
@no_type_check
def mix_kernel(
    q_pointer,
    k_pointer,
    v_pointer,
    starts_pointer,
    y_pointer,
    points: tl.constexpr,
    heads: tl.constexpr,
    width: tl.constexpr,
    columns: tl.constexpr,
    split_points: tl.constexpr,
    block: tl.constexpr,
    padded_width: tl.constexpr,
    padded_columns: tl.constexpr,
    tiles: tl.constexpr,
    scale: tl.constexpr,
    reverse: tl.constexpr,
    exact: tl.constexpr,
):
    """Walk over one split with the state of one tile of columns in registers; backwards in time if `reverse`."""
    head, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    split, sample = tl.program_id(1), tl.program_id(2)
    features, values = tl.arange(0, padded_width), tile * padded_columns + tl.arange(0, padded_columns)
    offsets = _state_offsets(features, values, sample, head, heads, width, columns)
    exists = (features[:, None] < width) & (values[None, :] < columns)
    state = tl.load(starts_pointer + offsets, mask=exists, other=0.0)
    order = tl.arange(0, block)
    if reverse:
        seen = order[:, None] <= order[None, :]
    else:
        seen = order[:, None] >= order[None, :]
    first = split * split_points
    steps = tl.cdiv(tl.minimum(split_points, points - first), block)
    for step in range(0, steps):
        if reverse:
            rows = first + (steps - 1 - step) * block + order
        else:
            rows = first + step * block + order
        q = _load(q_pointer, rows, features, sample, head, points, heads, width)
        k = _load(k_pointer, rows, features, sample, head, points, heads, width)
        v = _load(v_pointer, rows, values, sample, head, points, heads, columns)
        weights = tl.where(seen, scale * tl.dot(q, tl.trans(k), input_precision=exact), 0.0)
        y = tl.dot(q, state.to(q.dtype), input_precision=exact)
        y = tl.dot(weights.to(v.dtype), v, y, input_precision=exact)
        y_offsets = _token_offsets(rows, values, sample, head, points, heads, columns)
        stored = (rows[:, None] < points) & (values[None, :] < columns)
        tl.store(y_pointer + y_offsets, y.to(y_pointer.dtype.element_ty), mask=stored)
        state += scale * tl.dot(tl.trans(k), v, input_precision=exact)
