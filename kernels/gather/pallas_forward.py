"""The forward kernel, split over the points, and the softmax over tiles that it shares with the mixer's scatter."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels._bounds import logit_bound
from kernels._held import check_held, is_close
from kernels._layout import Layout
from kernels._scales import (
    Exponent,
    head_numbers,
    key_exponent,
    latent_exponent,
    logit_factor,
    numbers_operand,
    point_exponent,
    read_numbers,
    scaled,
    weight_exponent,
)
from kernels._statistics import Statistics, merge_splits
from kernels._target import Target
from kernels._tile_products import Parts, Products, stored_parts
from kernels._tiles import LOG2_E, LOWEST, load_rows, store_rows, store_vector
from kernels._tiling import Blocks
from kernels.gather.operands import Operands

# Folds a tile of raw logits and its values into the (maximum, mass, total) of each row.
Step = Callable[..., tuple[jax.Array, ...]]


def softmax_step(
    raw: jax.Array,
    values: Parts,
    carry: tuple[jax.Array, ...],
    factor: jax.Array | float,
    exponent: int,
    products: Products,
) -> tuple[jax.Array, ...]:
    """Fold one tile of raw logits `[rows, block]` and its values into the (maximum, mass, total) of each row.

    Logits count in powers of two: `factor` is scale · log2(e). It is applied after the maximum, so that scaling and
    subtraction are one fused operation per logit. Weights, and so mass and total, are multiplied by 2 to `exponent`.
    """
    maximum, mass, total = carry
    new = jnp.maximum(maximum, jnp.max(raw, axis=1) * factor)
    weights = products.weights_of(products.multiply_add(raw, factor, (exponent - new)[:, None]))
    decay = products.exp2(maximum - new)
    mass = decay * mass + jnp.sum(weights, axis=1)
    total = products.multiply(products.weights(weights, values), values, (1, 0), start=decay[:, None] * total)
    return new, mass, total


def softmax_start(
    rows: int, channels: int, products: Products, bound: jax.Array | None = None
) -> tuple[jax.Array, ...]:
    """Return the (maximum, mass, total) of no tile at all; a bound is the maximum from the start."""
    return (
        jnp.full((rows,), LOWEST if bound is None else bound, jnp.float32),
        jnp.zeros((rows,), jnp.float32),
        jnp.zeros((rows, products.columns(channels)), jnp.float32),
    )


def bounded_step(
    raw: jax.Array,
    values: Parts,
    carry: tuple[jax.Array, ...],
    factor: jax.Array | float,
    exponent: int,
    products: Products,
    bound: jax.Array | None = None,
) -> tuple[jax.Array, ...]:
    """Fold one tile as `softmax_step` does, with a bound of the logits, or what the carry has, for their maximum.

    What the carry has is the maximum of earlier tiles, which logits may be far beyond.
    """
    maximum, mass, total = carry
    term = (exponent - maximum)[:, None] if bound is None else exponent - bound
    weights = products.weights_of(products.multiply_add(raw, factor, term), limited=bound is None)
    total = products.multiply(products.weights(weights, values), values, (1, 0), start=total)
    return maximum, mass + jnp.sum(weights, axis=1), total


def for_heads(bound_ref: Any, bounded: bool | None, run: Callable[[Step, jax.Array | None], None]) -> None:
    """Call `run(step, bound)` if this launch serves the program's head; see `Layout.launch_by_bound`."""
    if bounded is None:
        run(softmax_step, None)
        return
    if bound_ref is None:
        run(bounded_step, None)
        return
    bound = bound_ref[0]
    if bounded:
        pl.when(bound < jnp.inf)(lambda: run(functools.partial(bounded_step, bound=bound), bound))
    else:
        pl.when(bound == jnp.inf)(lambda: run(softmax_step, None))


def _gather_kernel(
    inputs: Any,
    outputs: Statistics,
    *,
    layout: Layout,
    bounded: bool | None,
    widths: tuple[int, int],
    constants: Any,
    exponent: int,
) -> None:
    """Softmax of one tile of latents over the points of one split."""
    bound_ref, (numbers_ref, q_ref, k_ref, v_ref, mask_ref) = inputs
    numbers, tiling = read_numbers(constants, numbers_ref), layout.tiling
    split, latent_tile = pl.program_id(1), layout.latent_tile(pl.program_id(0))

    def run(step: Step, bound: jax.Array | None) -> None:
        valid_latents = tiling.valid_latents(latent_tile)
        q = layout.products.load_parts(q_ref, 0, tiling.block_latents, widths[0], valid_latents)
        gather_split(
            numbers, q, (k_ref, v_ref, mask_ref), outputs, split, valid_latents, layout, widths, exponent, step, bound
        )

    for_heads(bound_ref, bounded, run)


def gather_split(
    numbers: tuple[jax.Array | float, ...],
    q: Parts,
    points: tuple[Any, Any, Any],
    outputs: Statistics,
    split: jax.Array,
    valid_latents: jax.Array | None,
    layout: Layout,
    widths: tuple[int, int],
    exponent: int,
    step: Step = softmax_step,
    bound: jax.Array | None = None,
) -> None:
    """Fold the points of one split, references to k, v or None, and the mask, into the statistics of a tile of latents.

    `numbers` are the factor of the logits, the scales of keys and values, and what undoes the latter.
    """
    factor, key_scale, value_scale, unscale = numbers
    k_ref, v_ref, mask_ref = points
    tiling, products, (width, channels) = layout.tiling, layout.products, widths
    q = products.left(q)

    def tile(index: jax.Array, carry: tuple, checked: bool, step: Step = step) -> tuple:
        start = index * tiling.block_points
        valid = tiling.valid_points(start, split, mask_ref) if checked else None
        k = load_rows(k_ref, start, tiling.block_points, width, valid)
        v = k if v_ref is None else load_rows(v_ref, start, tiling.block_points, channels, valid)
        raw = products.multiply(q, products.right(products.split(k, key_scale)), (1, 1))
        if checked:
            raw = jnp.where(valid[None, :], raw, -jnp.inf)
        return step(raw, products.right(products.split(v, value_scale)), carry, factor, exponent, products)

    start = softmax_start(tiling.block_latents, channels, products, bound)
    # What stands for the maximum of all tiles, where nothing else does.
    first = functools.partial(tile, step=softmax_step) if step is bounded_step else None
    maximum, mass, total = tiling.fold_tiles(split, tile, start, first)
    # Where no point takes part the latents are zero.
    latents = products.folded(total) * (unscale / jnp.where(mass > 0, mass, 1.0))[:, None]
    store_vector(outputs.maximum, 0, maximum, valid_latents)
    store_vector(outputs.mass, 0, mass * 2.0**-exponent, valid_latents)
    store_rows(outputs.latents, 0, latents, channels, valid_latents)


class Exponents(NamedTuple):
    """By which powers of two q, k and the values are multiplied."""

    q: Exponent
    k: Exponent
    v: Exponent

    @classmethod
    def of(cls, operands: Operands) -> "Exponents":
        """Return those of the operands."""
        k = key_exponent(operands.k, operands.mask, operands.largest_key)
        v = k if operands.v is None else point_exponent(operands.v, operands.mask)
        return cls(latent_exponent(operands.q), k, v)

    @property
    def factor(self) -> Exponent:
        """By which power of two the logits are multiplied after their product."""
        return logit_factor(-(self.q + self.k))


def gather_points(operands: Operands, scale: float, blocks: Blocks, target: Target, coarse: bool = False) -> Statistics:
    """Return the latents and the statistics of their softmax over the points, maxima in powers of two."""
    q, k, v, mask, _ = operands
    check_held(blocks.held, "gather", k.dtype)
    exponents = Exponents.of(operands)
    layout = Layout.create(blocks, q, k, mask, target, all_latents=False, coarse=coarse)
    width, channels = k.shape[-1], operands.values.shape[-1]
    constants, numbers = numbers_operand(
        head_numbers((scale * LOG2_E, exponents.factor), (1.0, exponents.k), (1.0, exponents.v), (1.0, -exponents.v)),
        layout,
    )
    kernel = functools.partial(
        _gather_kernel, widths=(width, channels), constants=constants, exponent=weight_exponent(k.dtype)
    )
    q = stored_parts(scaled(q, exponents.q), read_once=True)
    inputs = (numbers, layout.latents(q), layout.points(k), layout.points(v), layout.mask(mask))
    statistics = layout.partial_statistics()
    outputs = Statistics(layout.partial_latents(channels), statistics, statistics)
    given = blocks.bounded and operands.largest_key is not None
    bound = logit_bound(operands.q, operands.largest_key, scale) if given else None
    # Of masked points the first tile may have none that takes part, and so no maximum.
    if blocks.held and bound is None and mask is None:

        def close(partial: Statistics) -> jax.Array:
            return is_close(partial.mass)

        return merge_splits(layout.launch_held(kernel, "gather", inputs, outputs, None, close))
    return merge_splits(layout.launch_by_bound(kernel, "gather", inputs, outputs, bound))
