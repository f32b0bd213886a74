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
from kernels.flare_mixer.pallas_specs import Layout, mask_operand
from kernels.flare_mixer.pallas_tiles import LOG2_E, load_parts, load_rows, load_vector, padded_width, store_rows


def _latent_gradient_kernel(
    q_ref: Any,
    k_ref: Any,
    dy_ref: Any,
    maximum_ref: Any,
    mass_ref: Any,
    *refs: Any,
    layout: Layout,
    widths: tuple[int, int],
    factor: float,
) -> None:
    """Sum the scatter's weights times dy over the points of one split, for one tile of latents."""
    *mask_ref, dz_ref = refs
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
        weights = jnp.exp2(multiply(q, split_tile(k), (1, 1)) * factor - maximum[None, :])
        values = split_tile(dy)
        return multiply(weight_parts(weights, values), values, (1, 0), start=dz)

    dz = jnp.zeros((tiling.block_latents, padded_width(channels)), jnp.float32)
    store_rows(dz_ref, 0, tiling.fold_tiles(split, tile, dz), channels, valid_latents)


def latent_gradient(
    operands: Operands, dy: jax.Array, maximum: jax.Array, mass: jax.Array, scale: float, blocks: Blocks
) -> jax.Array:
    """Return the gradient `[B, H, M, C]` of the latents through the mixed points, float32."""
    (q, k), mask = operands.scatter_pair, operands.mask
    layout = Layout.create(blocks, operands, all_latents=False)
    width, channels = k.shape[-1], dy.shape[-1]
    kernel = functools.partial(_latent_gradient_kernel, layout=layout, widths=(width, channels), factor=scale * LOG2_E)
    q = stored_parts(q, read_once=True)
    masks, mask_specs = mask_operand(mask, layout)
    spec, shape = layout.partial_latents(channels)
    statistics = layout.point_statistics()
    (partial,) = pallas_call(
        kernel,
        name="flare_latent_gradient",
        grid=layout.grid,
        in_specs=[
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
    )(q, k, dy, maximum, mass, *masks)
    return jnp.sum(partial, axis=2)
