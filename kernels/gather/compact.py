"""The gather for few points, in a kernel that finds its powers of two itself and leaves its splits to the next kernel.

With few points the programs of XLA around a kernel, maxima of operands and the merging of splits, take longer than the
kernel. Programs of the next kernel merge what they read here (`merge`), each for its head again, so there must be few
splits. `kernels/flare_mixer/compact.py` and `kernels/flarepp_mixer/compact.py` are made of it.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels._layout import Layout
from kernels._scales import logit_factor, number, tile_exponent, weight_exponent
from kernels._statistics import Statistics
from kernels._target import Target
from kernels._tile_products import Parts, Products, is_split
from kernels._tiles import LOG2_E, LOWEST, inside, load_masked, load_rows, padded_width
from kernels._tiling import Blocks, Tiling
from kernels.gather.operands import Operands
from kernels.gather.pallas_forward import gather_split

# Every program of the next kernel reads the results of all splits.
MOST_SPLITS = 32

Load = Callable[[jax.Array, jax.Array | None], jax.Array]


def gather_splits(
    operands: Operands,
    scale: float,
    blocks: Blocks,
    target: Target,
    coarse: bool = False,
    latents: jax.Array | None = None,
) -> Statistics:
    """Return what each split of the points gathered: latents `[B, H, splits, M, C]`, maxima and masses.

    The kernel reads the queries as the first array of `latents`, `[arrays, H, M, D]`, if given.
    """
    q, k, v, mask, _ = operands
    layout = Layout.create(blocks, q, k, mask, target, all_latents=False, coarse=coarse)
    channels = operands.values.shape[-1]
    kernel = functools.partial(_gather_kernel, widths=(k.shape[-1], channels), scale=scale)
    latents = q[None] if latents is None else latents
    inputs = (layout.latents(latents), layout.points(k), layout.points(v), layout.mask(mask))
    return layout.launch(kernel, "gather", inputs, splits_output(layout, channels))


def splits_output(layout: Layout, channels: int) -> Statistics:
    """Return the outputs for what each split gathered."""
    statistics = layout.partial_statistics()
    return Statistics(layout.partial_latents(channels), statistics, statistics)


def _largest(tiling: Tiling, split: jax.Array, mask_ref: Any, loads: Sequence[tuple[Load, int]]) -> list[jax.Array]:
    """Return the largest entry, in size, of each `load(start, valid)` of a width, over the points of a split."""

    def tile(index: jax.Array, carry: list[jax.Array], checked: bool) -> list[jax.Array]:
        start = index * tiling.block_points
        valid = tiling.valid_points(start, split, mask_ref) if checked else None
        return [jnp.maximum(x, jnp.abs(load(start, valid))) for x, (load, _) in zip(carry, loads, strict=True)]

    zeros = [jnp.zeros((tiling.block_points, padded_width(width)), jnp.float32) for _, width in loads]
    return [jnp.max(x) for x in tiling.fold_tiles(split, tile, zeros)]


def point_exponents(
    layout: Layout, split: jax.Array, mask_ref: Any, loads: Sequence[tuple[Load, int]], dtype: Any
) -> list[jax.Array | int]:
    """Return the exponents of a program's point operands, 0 for those that are not multiplied in parts."""
    if not is_split(dtype):
        return [0] * len(loads)
    return [tile_exponent(x, dtype) for x in _largest(layout.tiling, split, mask_ref, loads)]


def rows_of(ref: Any, rows: int, width: int) -> tuple[Load, int]:
    """Return how tiles of points are read for their exponent, and their width."""
    return lambda start, valid: load_rows(ref, start, rows, width, valid), width


class LatentTile(NamedTuple):
    """A tile of latents in parts, and its exponent."""

    parts: Parts
    exponent: jax.Array | int

    @classmethod
    def of(cls, x: jax.Array, products: Products) -> "LatentTile":
        """Split a tile, brought into range by its largest entry."""
        exponent = tile_exponent(jnp.max(jnp.abs(x)), x.dtype) if is_split(x.dtype) else 0
        return cls(products.split(x, number(1.0, exponent)), exponent)

    @classmethod
    def load(
        cls, ref: Any, rows: int, width: int, valid: jax.Array | None, products: Products, dtype: Any
    ) -> "LatentTile":
        """Read a tile of this dtype from the first array of `[arrays, rows, width]` and split it."""
        return cls.of(load_rows(ref, 0, rows, width, valid, (jnp.int32(0),)).astype(dtype), products)


def _gather_kernel(inputs: Any, outputs: Statistics, *, layout: Layout, widths: tuple[int, int], scale: float) -> None:
    """Softmax of one tile of latents over the points of one split."""
    q_ref, *points = inputs
    valid = layout.tiling.valid_latents(layout.latent_tile(pl.program_id(0)))
    q = LatentTile.load(q_ref, layout.tiling.block_latents, widths[0], valid, layout.products, points[0].dtype)
    gather_tile(q, points, outputs, pl.program_id(1), valid, layout, widths, scale)


def gather_tile(
    q: LatentTile,
    points: Sequence[Any],
    outputs: Statistics,
    split: jax.Array,
    valid: jax.Array | None,
    layout: Layout,
    widths: tuple[int, int],
    scale: float,
) -> None:
    """Write what a tile of latents gathers from one split: references to k, v or None, and the mask."""
    k_ref, v_ref, mask_ref = points
    rows, dtype, (width, channels) = layout.tiling.block_points, k_ref.dtype, widths
    loads = [rows_of(k_ref, rows, width), *([] if v_ref is None else [rows_of(v_ref, rows, channels)])]
    exponents = point_exponents(layout, split, mask_ref, loads, dtype)
    k, v = exponents[0], exponents[-1]
    numbers = (
        number(scale * LOG2_E, logit_factor(-(q.exponent + k))),
        number(1.0, k),
        number(1.0, v),
        number(1.0, -v),
    )
    weight = weight_exponent(dtype)
    gather_split(numbers, q.parts, (k_ref, v_ref, mask_ref), outputs, split, valid, layout, widths, weight)


def merge(
    parts: Statistics, splits: int, layout: Layout, channels: int, valid: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return a tile of the latents of all points, their maximum and mass, from references to those of the splits."""
    rows = layout.tiling.block_latents

    def of_split(ref: Any, split: int, other: float) -> jax.Array:
        return load_masked(ref.at[jnp.int32(split), pl.ds(0, rows)], valid, other)

    maxima = [of_split(parts.maximum, split, LOWEST) for split in range(splits)]
    maximum = functools.reduce(jnp.maximum, maxima)
    mass = jnp.zeros((rows,), jnp.float32)
    total = jnp.zeros((rows, padded_width(channels)), jnp.float32)
    for split in range(splits):
        share = of_split(parts.mass, split, 0.0) * layout.products.exp2(maxima[split] - maximum)
        mass += share
        total += share[:, None] * load_rows(parts.latents, 0, rows, channels, valid, (jnp.int32(split),))
    return total / jnp.where(mass > 0, mass, 1.0)[:, None], maximum, mass


def sum_splits(
    ref: Any, splits: int, start: jax.Array, layout: Layout, channels: int, valid: jax.Array | None
) -> jax.Array:
    """Return `start` plus what each split has for a tile of latents, from a reference to `[splits, rows, channels]`."""
    for split in range(splits):
        start += load_rows(ref, 0, layout.tiling.block_latents, channels, valid, (jnp.int32(split),))
    return start


def sum_split_columns(ref: Any, splits: int, layout: Layout, width: int) -> jax.Array:
    """Return the sum of what each split has as columns, `[splits, width, latents]`, as the rows of a tile."""
    tiling = layout.tiling
    shape, extent = (padded_width(width), tiling.block_latents), (width, tiling.latents)
    total = jnp.zeros(shape, jnp.float32)
    for split in range(splits):
        columns = ref.at[jnp.int32(split), pl.ds(0, shape[0]), pl.ds(0, shape[1])]
        total += load_masked(columns, inside(shape, extent))
    return total.T
