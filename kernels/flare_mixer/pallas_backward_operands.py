"""Second backward kernel: the gradients of q, k and v, with the logits of both softmaxes computed once per tile."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels._pallas import pallas_call
from kernels._statistics import Statistics
from kernels.flare_mixer.dispatch import Blocks
from kernels.flare_mixer.operands import Operands
from kernels.flare_mixer.pallas_operand_kernel import operand_gradient_kernel
from kernels.flare_mixer.pallas_pair_gradients import Numbers, Settings
from kernels.flare_mixer.pallas_products import is_split, stored_parts
from kernels.flare_mixer.pallas_scales import (
    Exponent,
    Exponents,
    head_numbers,
    latent_exponent,
    point_exponent,
    scaled,
    slope_exponent,
    weight_exponent,
)
from kernels.flare_mixer.pallas_specs import Layout, mask_operand, numbers_operand
from kernels.flare_mixer.pallas_tiles import LOG2_E

# Powers of two that the factors of one exponential may span: a weight that is lost then is below 2⁻⁶⁶.
_WIDEST_RANGE = 60.0

# An operand or the shape of a result, with what part of it a program sees.
Shaped = jax.Array | jax.ShapeDtypeStruct
Placed = tuple[Shaped, pl.BlockSpec]


class _LatentSide(NamedTuple):
    """What the slopes need of the latents, `[B, H, M, C]`: z, dz / mass and, `[B, H, M, 1]`, their mean slopes.

    Where the heads share exponentials, their factors are in the last two, and `references` is `[B, H, 1]`; else it is
    empty.
    """

    latents: jax.Array
    gradients: jax.Array
    mean: jax.Array
    references: list[jax.Array]


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
) -> Operands:
    """Return the gradients of all operands; those of q and q_decode are per sample, `[B, H, M, D]`, float32.

    `point_statistics` are the scatter's maxima and masses `[B, H, N]`, `dz` is the complete gradient of the latents.
    """
    dtype, weight = y.dtype, weight_exponent(y.dtype)
    layout = Layout.create(blocks, operands, all_latents=True)
    # Factors of one exponential span more than parts of float32 can hold.
    shared = blocks.one_exponential and not operands.separate and not is_split(dtype)
    side = _latent_side(statistics, dz, point_statistics[0] if shared else None, dtype)
    latents, gradients = latent_exponent(side.latents), latent_exponent(side.gradients)
    values = point_exponent(dy, operands.mask, point_statistics[1])
    # Mean slopes hold z in the place of v, which on one of several devices may be smaller.
    gather = jnp.minimum(exponents.v, latents) if is_split(dtype) else 0
    slope = slope_exponent(y.shape[-1], gather + gradients, values + latents)
    numbers = _numbers(exponents, (latents, gradients), values, slope, weight, scale)
    constants, numbers, number_specs = numbers_operand(numbers, layout)
    masks, mask_specs = mask_operand(operands.mask, layout)

    def place_latents(*pairs: tuple[jax.Array, Exponent]) -> list[Placed]:
        parts = [stored_parts(scaled(x, exponent), layout.tiling.latent_tiles == 1) for x, exponent in pairs]
        return [(x, layout.latents(x)) for x in parts]

    def place_points(*arrays: Shaped) -> list[Placed]:
        return [(x, layout.points(x.shape[-1])) for x in arrays]

    decode = operands.separate
    point_keys = [operands.k, operands.k_decode] if decode else [operands.k]
    inputs = [
        *zip(numbers, number_specs, strict=True),
        *[(x, layout.head_numbers(1)) for x in side.references],
        *place_latents((side.latents, latents), (side.gradients, gradients)),
        (statistics.maximum - weight, layout.latent_statistics()),
        (scaled(side.mean, slope - weight)[..., 0], layout.latent_statistics()),
        *place_latents((operands.q, exponents.q), *[(operands.q_decode, exponents.q_decode)] * decode),
        *place_points(operands.v, y, dy),
        *[(x, layout.point_statistics()) for x in point_statistics],
        *place_points(*point_keys),
        *zip(masks, mask_specs, strict=True),
    ]
    widths = tuple(k.shape[-1] for k in point_keys)
    outputs = place_points(*[jax.ShapeDtypeStruct(x.shape, dtype) for x in (*point_keys, y)])
    outputs += [layout.partial_latents(width)[::-1] for width in widths]
    settings = Settings(layout, widths, y.shape[-1], None, constants)
    # Two launches, for one kernel with both ways would need the registers of both.
    results = _launch(settings._replace(one_exponential=True if shared else None), inputs, outputs, blocks)
    if shared:
        results = _launch(settings._replace(one_exponential=False), inputs, outputs, blocks, results)
    return _assemble(results, exponents, slope, scale)


def _latent_side(
    statistics: Statistics, dz: jax.Array, point_maximum: jax.Array | None, dtype: jnp.dtype
) -> _LatentSide:
    """Return the latents' side; with the points' maxima `[B, H, N]`, for one exponential."""
    gradients = dz / statistics.divisor[..., None]
    mean = jnp.sum(gradients * statistics.latents, axis=-1, keepdims=True)
    references = []
    if point_maximum is not None:
        reference, share = _one_exponential(statistics.maximum, point_maximum)
        references, gradients, mean = [reference], gradients * share[..., None], mean * share[..., None]
    return _LatentSide(statistics.latents.astype(dtype), gradients.astype(dtype), mean, references)


def _one_exponential(maximum: jax.Array, point_maximum: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the reference c `[B, H, 1]` of one exponential and the latents' factors `[B, H, M]`.

    Heads whose maxima, `[B, H, M]` and `[B, H, N]`, lie too far apart have an infinite reference and factors of 1.
    """
    reference = jnp.max(maximum, axis=-1, keepdims=True)
    lowest = jnp.minimum(jnp.min(maximum, axis=-1), jnp.min(point_maximum, axis=-1))[..., None]
    near = reference - lowest <= _WIDEST_RANGE
    return jnp.where(near, reference, jnp.inf), jnp.where(near, jnp.exp2(reference - maximum), 1.0)


def _launch(
    settings: Settings,
    inputs: Sequence[Placed],
    outputs: Sequence[Placed],
    blocks: Blocks,
    earlier: Sequence[jax.Array] = (),
) -> Sequence[jax.Array]:
    """Run the kernel; the results of an `earlier` launch for other heads are completed where they are."""
    placed = [*inputs, *zip(earlier, (spec for _, spec in outputs), strict=False)]
    launch = pallas_call(
        functools.partial(operand_gradient_kernel, settings=settings),
        name="flare_operand_gradients",
        grid=settings.layout.grid,
        in_specs=[spec for _, spec in placed],
        out_specs=[spec for _, spec in outputs],
        out_shape=[shape for shape, _ in outputs],
        num_warps=blocks.warps,
        num_stages=blocks.stages,
        input_output_aliases={len(inputs) + i: i for i in range(len(earlier))},
    )
    return launch(*[x for x, _ in placed])


def _assemble(results: Sequence[jax.Array], exponents: Exponents, slope: Exponent, scale: float) -> Operands:
    """Return the gradients of all operands from those of the keys, of v, and the splits' sums for the queries."""
    keys = len(results) // 2
    dk, dv, sums = results[:keys], results[keys], results[keys + 1 :]
    # What the sums are too large by: k is scaled, and so are the gradients of its logits.
    pairs = zip(sums, (exponents.k, exponents.k_decode), strict=False)
    dq = [scale * scaled(jnp.sum(x, axis=2), -slope - exponent) for x, exponent in pairs]
    return Operands(dq[0], dk[0], dv, *((dq[1], dk[1]) if keys > 1 else ()))


def _numbers(
    exponents: Exponents,
    value_exponents: Sequence[Exponent],
    decode_exponent: Exponent,
    slope: Exponent,
    weight: int,
    scale: float,
) -> tuple[float, ...] | jax.Array:
    """Return `Numbers` for every head from the exponents of z and dz / mass, dy / mass, slopes and weights."""
    latents, gradients = value_exponents
    return head_numbers(
        *Numbers(
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
    )
