"""The forward kernels: the gather, split over the points, and the scatter (README.md, "Kernels")."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels._pallas import pallas_call
from kernels._statistics import Statistics
from kernels.flare_mixer.dispatch import Blocks
from kernels.flare_mixer.operands import Operands
from kernels.flare_mixer.pallas_products import Parts, multiply, split_tile, stored_parts, weight_parts
from kernels.flare_mixer.pallas_scales import (
    Exponents,
    head_numbers,
    latent_exponent,
    read_numbers,
    scaled,
    weight_exponent,
)
from kernels.flare_mixer.pallas_specs import Layout, mask_operand, numbers_operand
from kernels.flare_mixer.pallas_tiles import (
    LOG2_E,
    LOWEST,
    load_parts,
    load_rows,
    padded_width,
    store_rows,
    store_vector,
)


def _softmax_step(
    raw: jax.Array, values: Parts, carry: tuple[jax.Array, ...], factor: jax.Array | float, exponent: int
) -> tuple[jax.Array, ...]:
    """Fold one tile of raw logits `[rows, block]` and its values into the (maximum, mass, total) of each row.

    Logits count in powers of two: `factor` is scale · log2(e). It is applied after the maximum, so that scaling and
    subtraction are one fused operation per logit. Weights, and so mass and total, are multiplied by 2 to `exponent`.
    """
    maximum, mass, total = carry
    new = jnp.maximum(maximum, jnp.max(raw, axis=1) * factor)
    weights = jnp.exp2(raw * factor - (new - exponent)[:, None])
    decay = jnp.exp2(maximum - new)
    mass = decay * mass + jnp.sum(weights, axis=1)
    total = multiply(weight_parts(weights, values), values, (1, 0), start=decay[:, None] * total)
    return new, mass, total


def _softmax_start(rows: int, channels: int) -> tuple[jax.Array, ...]:
    return (
        jnp.full((rows,), LOWEST, jnp.float32),
        jnp.zeros((rows,), jnp.float32),
        jnp.zeros((rows, padded_width(channels)), jnp.float32),
    )


def _gather_kernel(*refs: Any, layout: Layout, widths: tuple[int, int], constants: Any, exponent: int) -> None:
    """Online softmax of one tile of latents over the points of one split."""
    (factor, key_scale, value_scale, unscale), refs = read_numbers(constants, refs)
    q_ref, k_ref, v_ref, *mask_ref, maximum_ref, mass_ref, latents_ref = refs
    tiling, (width, channels) = layout.tiling, widths
    split = pl.program_id(1)
    valid_latents = tiling.valid_latents(layout.latent_tile(pl.program_id(0)))
    q = load_parts(q_ref, 0, tiling.block_latents, width, valid_latents)

    def tile(index: jax.Array, carry: tuple, checked: bool) -> tuple:
        start = index * tiling.block_points
        valid = tiling.valid_points(start, split, *mask_ref) if checked else None
        k = load_rows(k_ref, start, tiling.block_points, width, valid)
        v = load_rows(v_ref, start, tiling.block_points, channels, valid)
        raw = multiply(q, split_tile(k, key_scale), (1, 1))
        if checked:
            raw = jnp.where(valid[None, :], raw, -jnp.inf)
        return _softmax_step(raw, split_tile(v, value_scale), carry, factor, exponent)

    maximum, mass, total = tiling.fold_tiles(split, tile, _softmax_start(tiling.block_latents, channels))
    latents = total * (unscale / jnp.where(mass > 0, mass, 1.0))[:, None]  # no point takes part: the latents are zero
    store_vector(maximum_ref, 0, maximum, valid_latents)
    store_vector(mass_ref, 0, mass * 2.0**-exponent, valid_latents)
    store_rows(latents_ref, 0, latents, channels, valid_latents)


def gather(operands: Operands, exponents: Exponents, scale: float, blocks: Blocks) -> Statistics:
    """Return the latents of every split, all arrays with a third axis `[B, H, splits, M]`, maxima in powers of two."""
    q, k, v, mask = operands.q, operands.k, operands.v, operands.mask
    layout = Layout.create(blocks, operands, all_latents=False)
    width, channels = k.shape[-1], v.shape[-1]
    constants, numbers, number_specs = numbers_operand(
        head_numbers(
            (scale * LOG2_E, exponents.gather_factor), (1.0, exponents.k), (1.0, exponents.v), (1.0, -exponents.v)
        ),
        layout,
    )
    kernel = functools.partial(
        _gather_kernel,
        layout=layout,
        widths=(width, channels),
        constants=constants,
        exponent=weight_exponent(v.dtype),
    )
    q = stored_parts(scaled(q, exponents.q), read_once=True)
    masks, mask_specs = mask_operand(mask, layout)
    outputs = [layout.partial_statistics(), layout.partial_statistics(), layout.partial_latents(channels)]
    maximum, mass, latents = pallas_call(
        kernel,
        name="flare_gather",
        grid=layout.grid,
        in_specs=[*number_specs, layout.latents(q), layout.points(width), layout.points(channels), *mask_specs],
        out_specs=[spec for spec, _ in outputs],
        out_shape=[shape for _, shape in outputs],
        num_warps=blocks.warps,
        num_stages=blocks.stages,
    )(*numbers, q, k, v, *masks)
    return Statistics(latents, maximum, mass)


def _scatter_kernel(*refs: Any, layout: Layout, widths: tuple[int, int], constants: Any, exponent: int) -> None:
    """Softmax over all latents for the points of one split."""
    (factor, key_scale, unscale), refs = read_numbers(constants, refs)
    q_ref, z_ref, k_ref, *mask_ref, y_ref, maximum_ref, mass_ref = refs
    tiling, (width, channels) = layout.tiling, widths
    split = pl.program_id(1)

    def load_latents(index: Any, valid: jax.Array | None) -> tuple[Parts, Parts]:
        start = index * tiling.block_latents
        q = load_parts(q_ref, start, tiling.block_latents, width, valid)
        return q, load_parts(z_ref, start, tiling.block_latents, channels, valid)

    resident = load_latents(0, tiling.valid_latents(0)) if tiling.latent_tiles == 1 else None

    def tile(index: jax.Array, carry: None, checked: bool) -> None:
        start = index * tiling.block_points
        valid = tiling.valid_points(start, split, *mask_ref) if checked else None
        k = split_tile(load_rows(k_ref, start, tiling.block_points, width, valid), key_scale)

        def latents(index: jax.Array, carry: tuple, valid_latents: jax.Array | None) -> tuple:
            q, z = resident or load_latents(index, valid_latents)
            raw = multiply(k, q, (1, 1))
            if valid_latents is not None:
                raw = jnp.where(valid_latents[None, :], raw, -jnp.inf)
            return _softmax_step(raw, z, carry, factor, exponent)

        maximum, mass, y = tiling.fold_latents(latents, _softmax_start(tiling.block_points, channels))
        y = y * (unscale / mass)[:, None]
        existing = None
        if checked:
            # A point that takes no part gets output 0, and an infinite maximum makes its weights 0 in the backward.
            y = jnp.where(valid[:, None], y, 0.0)
            maximum = jnp.where(valid, maximum, jnp.inf)
            existing = tiling.valid_points(start, split)
        store_rows(y_ref, start, y, channels, existing)
        store_vector(maximum_ref, start, maximum, existing)
        store_vector(mass_ref, start, mass * 2.0**-exponent, existing)

    tiling.fold_tiles(split, tile, None)


def scatter(
    operands: Operands, latents: jax.Array, exponents: Exponents, scale: float, blocks: Blocks
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the mixed points and the maxima and masses `[B, H, N]` of their softmaxes over the latents."""
    (q, k), mask = operands.scatter_pair, operands.mask
    layout = Layout.create(blocks, operands, all_latents=True)
    width, channels = k.shape[-1], latents.shape[-1]
    batch, points, heads, _ = k.shape
    latents_exponent = latent_exponent(latents)
    constants, numbers, number_specs = numbers_operand(
        head_numbers((scale * LOG2_E, exponents.scatter_factor), (1.0, exponents.k_decode), (1.0, -latents_exponent)),
        layout,
    )
    kernel = functools.partial(
        _scatter_kernel,
        layout=layout,
        widths=(width, channels),
        constants=constants,
        exponent=weight_exponent(latents.dtype),
    )
    factors = scaled(q, exponents.q_decode), scaled(latents, latents_exponent)
    q, latents = (stored_parts(x, read_once=layout.tiling.latent_tiles == 1) for x in factors)
    masks, mask_specs = mask_operand(mask, layout)
    statistics = jax.ShapeDtypeStruct((batch, heads, points), jnp.float32)
    return pallas_call(
        kernel,
        name="flare_scatter",
        grid=layout.grid,
        in_specs=[*number_specs, layout.latents(q), layout.latents(latents), layout.points(width), *mask_specs],
        out_specs=[layout.points(channels), layout.point_statistics(), layout.point_statistics()],
        out_shape=[jax.ShapeDtypeStruct((batch, points, heads, channels), k.dtype), statistics, statistics],
        num_warps=blocks.warps,
        num_stages=blocks.stages,
    )(*numbers, q, latents, k, *masks)
