"""First backward kernel: the gradient of the latents, split over the points (README.md, "Kernels")."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels._pallas import pallas_call
from kernels.flare_mixer.dispatch import Blocks
from kernels.flare_mixer.operands import Operands
from kernels.flare_mixer.pallas_products import multiply, split_tile, stored_parts, weight_parts
from kernels.flare_mixer.pallas_scales import (
    Exponents,
    head_numbers,
    point_exponent,
    read_numbers,
    scaled,
    weight_exponent,
)
from kernels.flare_mixer.pallas_specs import Layout, mask_operand, numbers_operand
from kernels.flare_mixer.pallas_tiles import LOG2_E, load_parts, load_rows, load_vector, padded_width, store_rows


def _latent_gradient_kernel(*refs: Any, layout: Layout, widths: tuple[int, int], constants: Any, exponent: int) -> None:
    """Sum the scatter's weights times dy over the points of one split, for one tile of latents."""
    (factor, key_scale, value_scale, unscale), refs = read_numbers(constants, refs)
    q_ref, k_ref, dy_ref, maximum_ref, mass_ref, *mask_ref, dz_ref = refs
    tiling, (width, channels) = layout.tiling, widths
    split = pl.program_id(1)
    valid_latents = tiling.valid_latents(layout.latent_tile(pl.program_id(0)))
    q = load_parts(q_ref, 0, tiling.block_latents, width, valid_latents)

    def tile(index: jax.Array, dz: jax.Array, checked: bool) -> jax.Array:
        start = index * tiling.block_points
        valid = tiling.valid_points(start, split, *mask_ref) if checked else None
        k = load_rows(k_ref, start, tiling.block_points, width, valid)
        dy = load_rows(dy_ref, start, tiling.block_points, channels, valid)
        maximum = load_vector(maximum_ref, start, tiling.block_points, valid, jnp.inf)
        mass = load_vector(mass_ref, start, tiling.block_points, valid, 1.0)
        dy = (dy.astype(jnp.float32) * (1.0 / mass)[:, None]).astype(dy.dtype)
        raw = multiply(q, split_tile(k, key_scale), (1, 1))
        weights = jnp.exp2(raw * factor - (maximum - exponent)[None, :])
        values = split_tile(dy, value_scale)
        return multiply(weight_parts(weights, values), values, (1, 0), start=dz)

    dz = jnp.zeros((tiling.block_latents, padded_width(channels)), jnp.float32)
    store_rows(dz_ref, 0, tiling.fold_tiles(split, tile, dz) * unscale, channels, valid_latents)


def latent_gradient(
    operands: Operands,
    exponents: Exponents,
    dy: jax.Array,
    maximum: jax.Array,
    mass: jax.Array,
    scale: float,
    blocks: Blocks,
) -> jax.Array:
    """Return the gradient `[B, H, M, C]` of the latents through the mixed points, float32."""
    (q, k), mask = operands.scatter_pair, operands.mask
    layout = Layout.create(blocks, operands, all_latents=False)
    width, channels = k.shape[-1], dy.shape[-1]
    value_exponent, exponent = point_exponent(dy, mask, mass), weight_exponent(dy.dtype)
    constants, numbers, number_specs = numbers_operand(
        head_numbers(
            (scale * LOG2_E, exponents.scatter_factor),
            (1.0, exponents.k_decode),
            (1.0, value_exponent),
            (1.0, -value_exponent - exponent),
        ),
        layout,
    )
    kernel = functools.partial(
        _latent_gradient_kernel, layout=layout, widths=(width, channels), constants=constants, exponent=exponent
    )
    q = stored_parts(scaled(q, exponents.q_decode), read_once=True)
    masks, mask_specs = mask_operand(mask, layout)
    spec, shape = layout.partial_latents(channels)
    statistics = layout.point_statistics()
    (partial,) = pallas_call(
        kernel,
        name="flare_latent_gradient",
        grid=layout.grid,
        in_specs=[
            *number_specs,
            layout.latents(q),
            layout.points(width),
            layout.points(channels),
            statistics,
            statistics,
            *mask_specs,
        ],
        out_specs=[spec],
        out_shape=[shape],
        num_warps=blocks.warps,
        num_stages=blocks.stages,
    )(*numbers, q, k, dy, maximum, mass, *masks)
    return jnp.sum(partial, axis=2)
