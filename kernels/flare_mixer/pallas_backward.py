"""The backward kernels: the gradient of the latents, then those of q, k and v (README.md, "Kernels")."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels._layout import Layout
from kernels._pairs import Gradients
from kernels._pallas import Operand
from kernels._scales import (
    Exponent,
    head_numbers,
    latent_exponent,
    numbers_operand,
    point_exponent,
    read_numbers,
    row_exponent,
    scaled,
    slope_exponent,
    weight_exponent,
)
from kernels._statistics import Statistics
from kernels._target import Target
from kernels._tile_products import Parts, is_split, stored_parts
from kernels._tiles import LOG2_E, load_rows, load_vector, store_rows
from kernels._tiling import Blocks
from kernels.flare_mixer.exponents import Exponents
from kernels.flare_mixer.one_exponential import one_exponential
from kernels.flare_mixer.operands import Operands
from kernels.flare_mixer.pallas_pairs import (
    Inputs,
    LatentSide,
    Numbers,
    PointSide,
    Settings,
    operand_gradient_kernel,
)
from kernels.gather.pallas import like_latents, sum_of_splits


def _latent_gradient_kernel(
    inputs: Any, dz_ref: Any, *, layout: Layout, widths: tuple[int, int], constants: Any, exponent: int
) -> None:
    """Sum the scatter's weights times dy over the points of one split, for one tile of latents."""
    numbers_ref, q_ref, *points = inputs
    split, tiling = pl.program_id(1), layout.tiling
    valid_latents = tiling.valid_latents(layout.latent_tile(pl.program_id(0)))
    q = layout.products.load_parts(q_ref, 0, tiling.block_latents, widths[0], valid_latents)
    numbers = read_numbers(constants, numbers_ref)
    latent_gradient_split(numbers, q, points, dz_ref, split, valid_latents, layout, widths, exponent)


def latent_gradient_split(
    numbers: tuple[jax.Array | float, ...],
    q: Parts,
    points: Sequence[Any],
    dz_ref: Any,
    split: jax.Array,
    valid_latents: jax.Array | None,
    layout: Layout,
    widths: tuple[int, int],
    exponent: int,
) -> None:
    """Sum over the points of one split: references to k, dy, their maxima and masses in the scatter, and the mask.

    `numbers` are the factor of the logits, the scales of keys and of dy / mass, and what undoes the latter.
    """
    factor, key_scale, value_scale, unscale = numbers
    k_ref, dy_ref, maximum_ref, mass_ref, mask_ref = points
    tiling, products, (width, channels) = layout.tiling, layout.products, widths
    q = products.left(q)

    def tile(index: jax.Array, dz: jax.Array, checked: bool) -> jax.Array:
        start = index * tiling.block_points
        valid = tiling.valid_points(start, split, mask_ref) if checked else None
        k = load_rows(k_ref, start, tiling.block_points, width, valid)
        maximum = load_vector(maximum_ref, start, tiling.block_points, valid, jnp.inf)
        dy = over_mass(dy_ref, mass_ref, start, tiling.block_points, channels, valid)
        raw = products.multiply(q, products.right(products.split(k, key_scale)), (1, 1))
        weights = products.weights_of(products.multiply_add(raw, factor, (exponent - maximum)[None, :]))
        values = products.right(products.split(dy, value_scale))
        return products.multiply(products.weights(weights, values), values, (1, 0), start=dz)

    dz = jnp.zeros((tiling.block_latents, products.columns(channels)), jnp.float32)
    store_rows(dz_ref, 0, products.folded(tiling.fold_tiles(split, tile, dz)) * unscale, channels, valid_latents)


def over_mass(dy_ref: Any, mass_ref: Any, start: Any, rows: int, channels: int, valid: jax.Array | None) -> jax.Array:
    """Return dy / mass of a tile of points, rounded as dy is."""
    dy = load_rows(dy_ref, start, rows, channels, valid)
    mass = load_vector(mass_ref, start, rows, valid, 1.0)
    return (dy.astype(jnp.float32) * (1.0 / mass)[:, None]).astype(dy.dtype)


def latent_gradient(
    operands: Operands,
    exponents: Exponents,
    dy: jax.Array,
    maximum: jax.Array,
    mass: jax.Array,
    scale: float,
    blocks: Blocks,
    target: Target,
) -> jax.Array:
    """Return the gradient `[B, H, M, C]` of the latents through the mixed points, float32."""
    (q, k), mask = operands.scatter_pair, operands.mask
    layout = Layout.create(blocks, q, k, mask, target, all_latents=False)
    value_exponent, exponent = point_exponent(dy, mask, mass), weight_exponent(dy.dtype)
    constants, numbers = numbers_operand(
        head_numbers(
            (scale * LOG2_E, exponents.scatter_factor),
            (1.0, exponents.k_decode),
            (1.0, value_exponent),
            (1.0, -value_exponent - exponent),
        ),
        layout,
    )
    kernel = functools.partial(
        _latent_gradient_kernel, widths=(k.shape[-1], dy.shape[-1]), constants=constants, exponent=exponent
    )
    inputs = (
        numbers,
        layout.latents(stored_parts(scaled(q, exponents.q_decode), read_once=True)),
        layout.points(k),
        layout.points(dy),
        layout.point_statistics(maximum),
        layout.point_statistics(mass),
        layout.mask(mask),
    )
    partial = layout.launch(kernel, "flare_latent_gradient", inputs, layout.partial_latents(dy.shape[-1]))
    return jnp.sum(partial, axis=2)


class _Slopes(NamedTuple):
    """What the slopes need of the latents, `[B, H, M, C]`: z, dz / mass and, `[B, H, M, 1]`, their mean slopes.

    Where the heads share exponentials, their factors are in the last two, and `reference` is `[B, H, 1]`; else it is
    None. `longest` is the exponent of the longest row of dz / mass without factors.
    """

    latents: jax.Array
    gradients: jax.Array
    mean: jax.Array
    reference: jax.Array | None
    longest: Exponent


def operand_gradients(
    operands: Operands,
    exponents: Exponents,
    statistics: Statistics,
    point_statistics: tuple[jax.Array, jax.Array],
    y: jax.Array,
    dy: jax.Array,
    dz: jax.Array,
    scale: float,
    blocks: Blocks,
    target: Target,
) -> Operands:
    """Return the gradients of all operands; those of q and q_decode are per sample, `[B, H, M, D]`, float32.

    `point_statistics` are the scatter's maxima and masses `[B, H, N]`, `dz` is the complete gradient of the latents.
    """
    dtype, weight = y.dtype, weight_exponent(y.dtype)
    layout = Layout.create(blocks, operands.q, operands.k, operands.mask, target, all_latents=True)
    shared = blocks.one_exponential and not operands.separate
    side = _latent_side(statistics, dz, point_statistics[0] if shared else None, dtype)
    latents, gradients = latent_exponent(side.latents), latent_exponent(side.gradients)
    values = point_exponent(dy, operands.mask, point_statistics[1])
    # Mean slopes hold z in the place of v, which on one of several devices may be smaller.
    gather = jnp.minimum(exponents.v, latents) if is_split(dtype) else 0
    # Weights of the gather are at most 1 without the latents' factors, whatever makes them.
    scatter = values + row_exponent(side.latents, latents)
    slope = slope_exponent(y.shape[-1], gather + side.longest, scatter, of_rows=True)
    numbers = numbers_of(exponents, (latents, gradients), values, slope, weight, scale)
    constants, numbers = numbers_operand(head_numbers(*numbers), layout)

    def parts(x: jax.Array, exponent: Exponent) -> Operand:
        return layout.latents(stored_parts(scaled(x, exponent), layout.tiling.latent_tiles == 1, joined=blocks.joined))

    pairs = [(operands.q, exponents.q, operands.k), (operands.q_decode, exponents.q_decode, operands.k_decode)]
    pairs = pairs[: 1 + operands.separate]
    inputs = Inputs(
        numbers,
        None if side.reference is None else layout.head_numbers(side.reference),
        LatentSide(
            parts(side.latents, latents),
            parts(side.gradients, gradients),
            layout.latent_statistics(statistics.maximum - weight),
            layout.latent_statistics(scaled(side.mean, slope - weight)[..., 0]),
            [parts(q, exponent) for q, exponent, _ in pairs],
        ),
        PointSide(
            *map(layout.points, (operands.v, y, dy)),
            *map(layout.point_statistics, point_statistics),
            [layout.points(k) for _, _, k in pairs],
        ),
        layout.mask(operands.mask),
    )
    widths = tuple(k.shape[-1] for _, _, k in pairs)
    outputs = Gradients(
        [layout.points_output(width, dtype) for width in widths],
        layout.points_output(y.shape[-1], dtype),
        [layout.partial_columns(width) for width in widths],
    )
    settings = Settings(widths, y.shape[-1], True if shared else None, constants)

    def launch(settings: Settings, earlier: Gradients | None = None) -> Gradients:
        kernel = functools.partial(operand_gradient_kernel, settings=settings)
        return layout.launch(kernel, "flare_operand_gradients", inputs, outputs, earlier)

    # Two launches, for one kernel with both ways would need the registers of both.
    results = launch(settings)
    if shared:
        results = launch(settings._replace(one_exponential=False), results)
    return _assemble(operands, results, exponents, slope, scale)


def _latent_side(statistics: Statistics, dz: jax.Array, point_maximum: jax.Array | None, dtype: jnp.dtype) -> _Slopes:
    """Return the latents' side; with the points' maxima `[B, H, N]`, for one exponential."""
    gradients = dz / statistics.divisor[..., None]
    entries = gradients.astype(dtype)
    longest = row_exponent(entries, latent_exponent(entries))
    mean = jnp.sum(gradients * statistics.latents, axis=-1, keepdims=True)
    reference = None
    if point_maximum is not None:
        reference, share = one_exponential(statistics.maximum, point_maximum, dtype)
        gradients, mean = gradients * share[..., None], mean * share[..., None]
    return _Slopes(statistics.latents.astype(dtype), gradients.astype(dtype), mean, reference, longest)


def _assemble(operands: Operands, results: Gradients, exponents: Exponents, slope: Exponent, scale: float) -> Operands:
    """Return the gradients of all operands from those of the keys, of v, and the splits' sums for the queries."""
    # What the sums are too large by: k is scaled, and so are the gradients of its logits.
    queries = operands.q, operands.q_decode
    parts = zip(results.queries, queries, (exponents.k, exponents.k_decode), strict=False)
    dq = [scale * scaled(sum_of_splits(x, q), -slope - exponent) for x, q, exponent in parts]
    decode = (like_latents(dq[1], operands.q_decode), results.keys[1]) if operands.separate else ()
    return Operands(like_latents(dq[0], operands.q), results.keys[0], results.values, *decode)


def numbers_of(
    exponents: Exponents,
    value_exponents: Sequence[Exponent],
    decode_exponent: Exponent,
    slope: Exponent,
    weight: int,
    scale: float,
) -> Numbers:
    """Return `Numbers` as constants and exponents, from those of z and dz / mass, dy / mass, slopes and weights."""
    latents, gradients = value_exponents
    return Numbers(
        factor=(scale * LOG2_E, exponents.gather_factor),
        decode_factor=(scale * LOG2_E, exponents.scatter_factor),
        key=(1.0, exponents.k),
        decode_key=(1.0, exponents.k_decode),
        value=(1.0, exponents.v),
        decode_value=(1.0, decode_exponent),
        slope=(1.0, slope - weight - exponents.v - gradients),
        decode_slope=(1.0, slope - decode_exponent - latents),
        mean=(1.0, slope),
        dv=(1.0, -weight - gradients),
        dk=(scale, -slope - exponents.q),
        dk_decode=(scale, -slope - exponents.q_decode),
    )
