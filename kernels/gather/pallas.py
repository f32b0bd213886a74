"""The gather in Pallas kernels: one launch forward and one backward, memory O(N) (README.md, "Kernels")."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels._layout import Layout
from kernels._pairs import Gradients, Walk
from kernels._pallas import Output
from kernels._scales import (
    Exponent,
    head_numbers,
    latent_exponent,
    logit_factor,
    numbers_operand,
    read_numbers,
    row_exponent,
    scaled,
    slope_exponent,
    weight_exponent,
)
from kernels._statistics import Statistics
from kernels._target import Target
from kernels._tile_products import Parts, is_split, stored_parts
from kernels._tiles import LOG2_E, load_rows, load_vector
from kernels._tiling import Blocks
from kernels.gather.backend import Backend
from kernels.gather.operands import Operands
from kernels.gather.pallas_forward import Exponents, gather_points
from kernels.gather.table import KernelBlocks


class GradientNumbers(NamedTuple):
    """What a head's kernel multiplies by: the logits' factor, the operands' scales, and what undoes those."""

    factor: Any
    key: Any
    value: Any
    slope: Any
    dv: Any
    dk: Any


class LatentSide(NamedTuple):
    """Of a tile of latents: the parts of q and of dz / mass, the maximum of its softmax and its mean slope."""

    keys: list[Parts]
    value: Parts
    maximum: jax.Array
    mean: jax.Array
    valid: jax.Array | None


class _Points(NamedTuple):
    """Of a tile of points: the parts of k and of the values."""

    keys: list[Parts]
    value: Parts
    valid: jax.Array | None


def _gradient_kernel(
    inputs: Any, outputs: Gradients, *, layout: Layout, widths: tuple[int, int], constants: Any
) -> None:
    """Gradients of the points of one split, and this split's part of the gradient of q."""
    split = pl.program_id(1)  # the interpreter knows it at the top level of a kernel only
    numbers_ref, (q_ref, w_ref, maximum_ref, mean_ref), points, mask_ref = inputs
    numbers = GradientNumbers(*read_numbers(constants, numbers_ref))
    tiling, products, (width, channels) = layout.tiling, layout.products, widths

    def load_latents(index: Any, valid: jax.Array | None) -> LatentSide:
        rows = tiling.block_latents
        start = index * rows
        return LatentSide(
            [products.load_parts(q_ref, start, rows, width, valid)],
            products.load_parts(w_ref, start, rows, channels, valid),
            load_vector(maximum_ref, start, rows, valid, jnp.inf),
            load_vector(mean_ref, start, rows, valid, 0.0),
            valid,
        )

    gradient_walk(load_latents, points, numbers, layout, widths).run(split, mask_ref, outputs)


def gradient_walk(
    load_latents: Callable[[Any, jax.Array | None], LatentSide],
    points: tuple[Any, Any],
    numbers: GradientNumbers,
    layout: Layout,
    widths: tuple[int, int],
    query_factors: tuple[Any, ...] | None = None,
) -> Walk:
    """Return the walk over pairs of tiles of points, references to k and v or None, and of latents."""
    products, (width, channels), (k_ref, v_ref) = layout.products, widths, points

    def load_points(start: jax.Array, valid: jax.Array | None) -> _Points:
        k = load_rows(k_ref, start, layout.tiling.group_points, width, valid)
        keys = products.split(k, numbers.key)
        if v_ref is None:
            return _Points([keys], keys, valid)
        value = load_rows(v_ref, start, layout.tiling.group_points, channels, valid)
        return _Points([keys], products.split(value, numbers.value), valid)

    def pair(points: _Points, latents: LatentSide) -> tuple[jax.Array, list[jax.Array]]:
        raw = products.multiply(points.keys[0], latents.keys[0], (1, 1))
        if points.valid is not None:
            raw = jnp.where(points.valid[:, None], raw, -jnp.inf)
        if latents.valid is not None:
            raw = jnp.where(latents.valid[None, :], raw, -jnp.inf)
        weights = products.exp2(products.multiply_add(raw, numbers.factor, -latents.maximum[None, :]))
        slope = products.multiply(points.value, latents.value, (1, 1))
        return weights, [weights * products.multiply_add(slope, numbers.slope, -latents.mean[None, :])]

    factors = (numbers.dk,), numbers.dv
    return Walk(layout, (width,), channels, *factors, load_latents, load_points, pair, query_factors)


def gradient_numbers(
    scale: float, q: Exponent, k: Exponent, v: Exponent, gradient: Exponent, slope: Exponent, weight: int
) -> GradientNumbers:
    """Return what a kernel multiplies by, as constants and exponents, from those of q, k, v, dz / mass and slopes."""
    return GradientNumbers(
        factor=(scale * LOG2_E, logit_factor(-(q + k))),
        key=(1.0, k),
        value=(1.0, v),
        slope=(1.0, slope - weight - v - gradient),
        dv=(1.0, -weight - gradient),
        dk=(scale, -slope - q),
    )


def gather_gradients(
    operands: Operands,
    statistics: Statistics,
    dz: jax.Array,
    scale: float,
    blocks: Blocks,
    target: Target,
    coarse: bool = False,
) -> Operands:
    """Return the gradients of all operands from the complete `dz`; that of q is per sample, float32."""
    q, k, v, mask, _ = operands
    dtype, weight = k.dtype, weight_exponent(k.dtype)
    exponents = Exponents.of(operands)
    layout = Layout.create(blocks, q, k, mask, target, all_latents=True, coarse=coarse)
    gradients = dz / statistics.divisor[..., None]
    mean = jnp.sum(gradients * statistics.latents, axis=-1)
    gradients = gradients.astype(dtype)
    gradient = latent_exponent(gradients)
    # Mean slopes hold z in the place of v, which on one of several devices may be smaller.
    values = jnp.minimum(exponents.v, latent_exponent(statistics.latents)) if is_split(dtype) else 0
    product = values + row_exponent(gradients, gradient)
    slope = slope_exponent(dz.shape[-1], product, product, of_rows=True)
    numbers = gradient_numbers(scale, *exponents, gradient, slope, weight)
    constants, numbers = numbers_operand(head_numbers(*numbers), layout)

    def parts(x: jax.Array, exponent: Exponent) -> Any:
        return layout.latents(stored_parts(scaled(x, exponent), layout.tiling.latent_tiles == 1, coarse))

    latents = (
        parts(q, exponents.q),
        parts(gradients, gradient),
        layout.latent_statistics(statistics.maximum - weight),
        layout.latent_statistics(scaled(mean[..., None], slope - weight)[..., 0]),
    )
    inputs = (numbers, latents, (layout.points(k), layout.points(v)), layout.mask(mask))
    outputs = Gradients(
        [Output(k.shape, dtype, layout.points(k).spec)],
        None if v is None else Output(v.shape, dtype, layout.points(v).spec),
        [layout.partial_columns(k.shape[-1])],
    )
    kernel = functools.partial(_gradient_kernel, widths=(k.shape[-1], dz.shape[-1]), constants=constants)
    (dk,), dv, (sums,) = layout.launch(kernel, "gather_gradients", inputs, outputs)
    # What the sums are too large by: k is scaled, and so are the gradients of its logits.
    dq = scale * scaled(sum_of_splits(sums, q), -slope - exponents.k)
    return Operands(like_latents(dq, q), dk, dv, None)


def sum_of_splits(parts: jax.Array, latents: jax.Array) -> jax.Array:
    """Sum what each split found for the gradient of latents, `[B, H, splits, D, M]`; return `[B, H, M, D]`.

    For latents of each sample it is an operation of its own: XLA would compute it in the program of what follows from
    it, such as the gradient of a gate, which has one block for each head.
    """
    total = jnp.swapaxes(jnp.sum(parts, axis=2), -1, -2)
    return total if latents.ndim == 3 else jax.lax.optimization_barrier(total)


def like_latents(gradient: jax.Array | None, latents: jax.Array | None) -> jax.Array | None:
    """Sum the gradients of all samples for latents that the batch shares, in the dtype of the latents."""
    if gradient is None:
        return None
    return (jnp.sum(gradient, axis=0) if latents.ndim == 3 else gradient).astype(latents.dtype)


@dataclass(frozen=True)
class PallasBackend(Backend):
    """The gather as kernels whose launches are `blocks`; `coarse` is that of their products."""

    blocks: KernelBlocks
    target: Target
    coarse: bool = False

    def gather(self, operands: Operands, *, scale: float) -> Statistics:
        return gather_points(operands, scale, self.blocks.gather, self.target, self.coarse)

    def exponential(self, x: jax.Array) -> jax.Array:
        return jnp.exp2(x)

    def gradients(self, operands: Operands, statistics: Statistics, dz: jax.Array, *, scale: float) -> Operands:
        return gather_gradients(operands, statistics, dz, scale, self.gradient_blocks, self.target, self.coarse)

    @property
    def gradient_blocks(self) -> Blocks:
        """The launch of the gradients with these products."""
        return (self.coarse and self.blocks.coarse_gradients) or self.blocks.gradients
