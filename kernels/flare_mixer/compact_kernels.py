"""The kernels for few points, with what stands between them elsewhere as part of them (`compact.py`)."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels._layout import Layout
from kernels._pairs import Gradients
from kernels._scales import logit_factor, number, slope_exponent, weight_exponent
from kernels._statistics import Statistics
from kernels._tile_products import is_split
from kernels._tiles import LOG2_E, load_rows, load_vector, store_rows, store_vector
from kernels.flare_mixer.exponents import Exponents
from kernels.flare_mixer.pallas_backward import latent_gradient_split, numbers_of, over_mass
from kernels.flare_mixer.pallas_pairs import Numbers, PointSide, Settings, Tile, pair_walk
from kernels.flare_mixer.pallas_scatter import scatter_split
from kernels.gather.compact import LatentTile, merge, point_exponents, rows_of, sum_splits


class Scattered(NamedTuple):
    """What the scatter writes: the mixed points, their softmaxes' maxima and masses, and the merged statistics."""

    y: Any
    maximum: Any
    mass: Any
    merged: Statistics


def scatter_kernel(
    inputs: Any, outputs: Scattered, *, layout: Layout, widths: tuple[int, int], splits: int, scale: float
) -> None:
    """Softmax over the latents for the points of one split; the first split keeps the merged latents."""
    q_ref, parts, k_ref, mask_ref = inputs
    tiling, products, (width, channels), dtype = layout.tiling, layout.products, widths, k_ref.dtype
    split, rows, valid = pl.program_id(1), tiling.block_latents, tiling.valid_latents(0)
    merged = merge(parts, splits, layout, channels, valid)

    @pl.when(split == 0)
    def keep() -> None:
        latents, maximum, mass = merged
        store_rows(outputs.merged.latents, 0, latents, channels, valid)
        store_vector(outputs.merged.maximum, 0, maximum, valid)
        store_vector(outputs.merged.mass, 0, mass, valid)

    q = LatentTile.load(q_ref, rows, width, valid, products, dtype)
    z = LatentTile.of(merged[0].astype(dtype), products)
    (k,) = point_exponents(layout, split, mask_ref, [rows_of(k_ref, tiling.block_points, width)], dtype)
    numbers = (
        number(scale * LOG2_E, logit_factor(-(q.exponent + k))),
        number(1.0, k),
        number(1.0, -z.exponent),
    )
    scatter_split(
        numbers,
        lambda index, valid: (q.parts, z.parts),
        (k_ref, mask_ref),
        outputs[:3],
        split,
        layout,
        widths,
        weight_exponent(dtype),
    )


def latent_gradient_kernel(inputs: Any, dz_ref: Any, *, layout: Layout, widths: tuple[int, int], scale: float) -> None:
    """Sum the scatter's weights times dy over the points of one split, for one tile of latents."""
    q_ref, *points = inputs
    k_ref, dy_ref, _, mass_ref, mask_ref = points
    tiling, (width, channels), dtype = layout.tiling, widths, k_ref.dtype
    split, rows = pl.program_id(1), tiling.block_points
    valid = tiling.valid_latents(layout.latent_tile(pl.program_id(0)))
    q = LatentTile.load(q_ref, tiling.block_latents, width, valid, layout.products, dtype)
    values = functools.partial(_values, dy_ref, mass_ref, rows, channels), channels
    k, value = point_exponents(layout, split, mask_ref, [rows_of(k_ref, rows, width), values], dtype)
    weight = weight_exponent(dtype)
    numbers = (
        number(scale * LOG2_E, logit_factor(-(q.exponent + k))),
        number(1.0, k),
        number(1.0, value),
        number(1.0, -value - weight),
    )
    latent_gradient_split(numbers, q.parts, points, dz_ref, split, valid, layout, widths, weight)


def _values(
    dy_ref: Any, mass_ref: Any, rows: int, channels: int, start: jax.Array, valid: jax.Array | None
) -> jax.Array:
    return over_mass(dy_ref, mass_ref, start, rows, channels, valid)


class GradientInputs(NamedTuple):
    """What the kernel of the operands' gradients reads: the parts of dz and the gradient of the returned latents."""

    parts: Any
    direct: Any
    statistics: Statistics
    keys: list[Any]
    points: PointSide
    mask: Any


def operand_gradient_kernel(
    inputs: GradientInputs, outputs: Gradients, *, layout: Layout, settings: Settings, splits: int, scale: float
) -> None:
    """Gradients of the points of one split."""
    split = pl.program_id(1)
    latents, numbers, query_factors = _slopes(inputs, split, layout, settings, splits, scale)
    walk = pair_walk(
        lambda index, valid: latents, inputs.points, numbers, layout, settings, query_factors=query_factors
    )
    walk.run(split, inputs.mask, outputs)


def _slopes(
    inputs: GradientInputs, split: jax.Array, layout: Layout, settings: Settings, splits: int, scale: float
) -> tuple[Tile, Numbers, tuple[Any, ...]]:
    """Return the latents' side of the slopes, what a program multiplies by, and the factors of its gradients of q."""
    products, tiling, points = layout.products, layout.tiling, inputs.points
    rows, valid, channels, dtype = tiling.block_latents, tiling.valid_latents(0), settings.values, points.v.dtype
    first = jnp.int32(0)
    dz = load_rows(inputs.direct, 0, rows, channels, valid, (first,))
    dz = sum_splits(inputs.parts, splits, dz, layout, channels, valid)
    mass = load_vector(inputs.statistics.mass, 0, rows, valid, 1.0)
    z = load_rows(inputs.statistics.latents, 0, rows, channels, valid, (first,))
    gradients = dz / jnp.where(mass > 0, mass, 1.0)[:, None]
    mean = jnp.sum(gradients * z, axis=1)
    keys = [
        LatentTile.load(ref, rows, width, valid, products, dtype)
        for ref, width in zip(inputs.keys, settings.logits, strict=True)
    ]
    z, gradients = (LatentTile.of(x.astype(dtype), products) for x in (z, gradients))
    loads = [
        *(rows_of(ref, tiling.block_points, width) for ref, width in zip(points.keys, settings.logits, strict=True)),
        rows_of(points.v, tiling.block_points, channels),
        (functools.partial(_values, points.dy, points.mass, tiling.block_points, channels), channels),
    ]
    *k, v, values = point_exponents(layout, split, inputs.mask, loads, dtype)
    exponents = Exponents(keys[0].exponent, k[0], v, keys[-1].exponent, k[-1])
    weight = weight_exponent(dtype)
    # Mean slopes hold z in the place of v, which among the points of one program may be smaller.
    gather = jnp.minimum(v, z.exponent) if is_split(dtype) else 0
    slope = slope_exponent(channels, gather + gradients.exponent, values + z.exponent)
    pairs = numbers_of(exponents, (z.exponent, gradients.exponent), values, slope, weight, scale)
    maximum = load_vector(inputs.statistics.maximum, 0, rows, valid, jnp.inf)
    latents = Tile(
        keys=[key.parts for key in keys],
        value=gradients.parts,
        decode_value=z.parts,
        maximum=maximum - weight,
        mean=mean * number(1.0, slope - weight),
        valid=valid,
    )
    return latents, Numbers(*(number(*pair) for pair in pairs)), tuple(number(scale, -slope - x) for x in k)
