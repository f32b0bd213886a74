"""The forward kernel of the scatter; that of the gather is the operation `gather`'s (README.md, "Kernels")."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels._bounds import logit_bound
from kernels._held import check_held, is_close
from kernels._layout import Layout
from kernels._scales import head_numbers, latent_exponent, numbers_operand, read_numbers, scaled, weight_exponent
from kernels._statistics import Statistics
from kernels._target import Target
from kernels._tile_products import Parts, stored_parts
from kernels._tiles import LOG2_E, load_rows, store_rows, store_vector
from kernels._tiling import Blocks
from kernels.flare_mixer.exponents import Exponents
from kernels.flare_mixer.operands import Operands
from kernels.gather.pallas_forward import Step, for_heads, softmax_start, softmax_step


def _scatter_kernel(
    inputs: Any,
    outputs: Any,
    *,
    layout: Layout,
    bounded: bool | None,
    widths: tuple[int, int],
    constants: Any,
    exponent: int,
) -> None:
    """Softmax over all latents for the points of one split."""
    bound_ref, (numbers_ref, q_ref, z_ref, k_ref, mask_ref) = inputs
    numbers, split = read_numbers(constants, numbers_ref), pl.program_id(1)
    tiling, products, (width, channels) = layout.tiling, layout.products, widths

    def load_latents(index: Any, valid: jax.Array | None) -> tuple[Parts, Parts]:
        start = index * tiling.block_latents
        q = products.load_parts(q_ref, start, tiling.block_latents, width, valid)
        z = products.load_parts(z_ref, start, tiling.block_latents, channels, valid)
        return products.right(q), products.right(z)

    def run(step: Step, bound: jax.Array | None) -> None:
        scatter_split(numbers, load_latents, (k_ref, mask_ref), outputs, split, layout, widths, exponent, step, bound)

    for_heads(bound_ref, bounded, run)


def scatter_split(
    numbers: tuple[jax.Array | float, ...],
    load_latents: Callable[[Any, jax.Array | None], tuple[Parts, Parts]],
    points: tuple[Any, Any],
    outputs: tuple[Any, Any, Any],
    split: jax.Array,
    layout: Layout,
    widths: tuple[int, int],
    exponent: int,
    step: Step = softmax_step,
    bound: jax.Array | None = None,
) -> None:
    """Write y, maxima and masses of the points of one split, given by references to k and the mask.

    `load_latents(tile, valid)` returns the parts of q and z; `numbers` are the factor of the logits, the scale of keys
    and what undoes that of z.
    """
    factor, key_scale, unscale = numbers
    (k_ref, mask_ref), (y_ref, maximum_ref, mass_ref) = points, outputs
    tiling, products, (width, channels) = layout.tiling, layout.products, widths
    resident = load_latents(0, tiling.valid_latents(0)) if tiling.latent_tiles == 1 else None

    def tile(index: jax.Array, carry: None, checked: bool) -> None:
        start = index * tiling.block_points
        valid = tiling.valid_points(start, split, mask_ref) if checked else None
        k = products.left(products.split(load_rows(k_ref, start, tiling.block_points, width, valid), key_scale))

        def latents(index: jax.Array, carry: tuple, valid_latents: jax.Array | None) -> tuple:
            q, z = resident or load_latents(index, valid_latents)
            raw = products.multiply(k, q, (1, 1))
            if valid_latents is not None:
                raw = jnp.where(valid_latents[None, :], raw, -jnp.inf)
            return step(raw, z, carry, factor, exponent, products)

        maximum, mass, y = tiling.fold_latents(latents, softmax_start(tiling.block_points, channels, products, bound))
        y = products.folded(y) * (unscale / mass)[:, None]
        existing = None
        if checked:
            # A point without part gets output 0, and an infinite maximum makes its weights 0 in the backward.
            y = jnp.where(valid[:, None], y, 0.0)
            maximum = jnp.where(valid, maximum, jnp.inf)
            mass = jnp.where(valid, mass, 2.0**exponent)
            existing = tiling.valid_points(start, split)
        store_rows(y_ref, start, y, channels, existing)
        store_vector(maximum_ref, start, maximum, existing)
        store_vector(mass_ref, start, mass * 2.0**-exponent, existing)

    tiling.fold_tiles(split, tile, None)


def scatter(
    operands: Operands,
    statistics: Statistics,
    exponents: Exponents,
    scale: float,
    blocks: Blocks,
    target: Target,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the mixed points and the maxima and masses `[B, H, N]` of their softmaxes over the latents."""
    check_held(blocks.held, "scatter", operands.v.dtype)
    (q, k), mask, latents = operands.scatter_pair, operands.mask, statistics.latents.astype(operands.v.dtype)
    layout = Layout.create(blocks, q, k, mask, target, all_latents=True)
    given = blocks.bounded and operands.largest_key is not None and not operands.separate
    bound = logit_bound(q, operands.largest_key, scale) if given else None
    width, channels = k.shape[-1], latents.shape[-1]
    latents_exponent = latent_exponent(latents)
    constants, numbers = numbers_operand(
        head_numbers((scale * LOG2_E, exponents.scatter_factor), (1.0, exponents.k_decode), (1.0, -latents_exponent)),
        layout,
    )
    kernel = functools.partial(
        _scatter_kernel, widths=(width, channels), constants=constants, exponent=weight_exponent(latents.dtype)
    )
    factors = scaled(q, exponents.q_decode), scaled(latents, latents_exponent)
    q, latents = (
        layout.latents(stored_parts(x, layout.tiling.latent_tiles == 1, joined=blocks.joined)) for x in factors
    )
    of_points = layout.point_statistics_output()
    outputs = (layout.points_output(channels, k.dtype), of_points, of_points)
    inputs = (numbers, q, latents, layout.points(k), layout.mask(mask))
    if blocks.held and bound is None and not operands.separate:
        reference = jnp.max(statistics.maximum, axis=-1, keepdims=True)

        def close(results: tuple[jax.Array, ...]) -> jax.Array:
            return is_close(results[2]) & (reference < jnp.inf)

        return layout.launch_held(kernel, "flare_scatter", inputs, outputs, reference, close)
    return layout.launch_by_bound(kernel, "flare_scatter", inputs, outputs, bound)
