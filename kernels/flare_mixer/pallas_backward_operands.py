"""Second backward kernel: the gradients of q, k and v, with the logits of both softmaxes computed once per tile.

Each program owns the points of one split and loops over all latents for every tile of points. The gradient of q is
summed in registers where one tile holds all latents; else each program sums it in its own part of a float32 buffer,
so that the result never depends on the order in which programs run (README.md, "Kernels").
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels._pallas import barrier, pallas_call
from kernels.flare_mixer.dispatch import Blocks
from kernels.flare_mixer.operands import Operands, Statistics
from kernels.flare_mixer.pallas_pair_gradients import (
    Numbers,
    Settings,
    Tile,
    load_latents,
    load_points,
    pair_gradients,
)
from kernels.flare_mixer.pallas_products import is_split, multiply, stored_parts, weight_parts
from kernels.flare_mixer.pallas_scales import (
    Exponent,
    Exponents,
    head_numbers,
    latent_exponent,
    point_exponent,
    read_numbers,
    scaled,
    slope_exponent,
    weight_exponent,
)
from kernels.flare_mixer.pallas_specs import Layout, mask_operand, numbers_operand
from kernels.flare_mixer.pallas_tiles import LOG2_E, load_rows, padded_width, store_rows

# Powers of two that the factors of one exponential may span: a weight that is lost then is below 2⁻⁶⁶.
_WIDEST_RANGE = 60.0


def _zeros(rows: int, widths: tuple[int, ...]) -> list[jax.Array]:
    return [jnp.zeros((rows, padded_width(width)), jnp.float32) for width in widths]


def _operand_gradient_kernel(*refs: Any, settings: Settings) -> None:
    """Gradients of the points of one split, for the heads that the launch serves."""
    split = pl.program_id(1)  # the interpreter knows it at the top level of a kernel only
    values, others = read_numbers(settings.constants, refs)
    numbers = Numbers(*values)
    if settings.one_exponential is None:
        _split_gradients(others, split, numbers, None, settings)
        return
    reference_ref, *others = others
    reference = reference_ref[0]
    near = reference < jnp.inf
    if settings.one_exponential:
        pl.when(near)(lambda: _split_gradients(others, split, numbers, reference, settings))
    else:
        pl.when(~near)(lambda: _split_gradients(others, split, numbers, None, settings))


def _split_gradients(
    refs: Sequence[Any], split: jax.Array, numbers: Numbers, reference: jax.Array | None, settings: Settings
) -> None:
    """Gradients of the points of one split, and this split's part of the gradients of the latents' keys."""
    tiling = settings.layout.tiling
    keys = len(settings.logits)
    earlier = 2 * keys + 1 if settings.one_exponential is False else 0
    latent_refs, point_refs, mask_ref, dk_refs, dv_ref, dq_refs = _group(list(refs), keys, tiling.masked, earlier)
    resident = tiling.latent_tiles == 1
    only = load_latents(latent_refs, 0, tiling.valid_latents(0), settings) if resident else None

    def load_sums(j: Any, first: jax.Array) -> list[jax.Array]:
        """Load this program's own sums of the gradients of a tile of latents; its first tile of points starts them."""
        start, valid = j * tiling.block_latents, tiling.valid_latents(j)
        sums = [
            load_rows(ref, start, tiling.block_latents, w, valid)
            for ref, w in zip(dq_refs, settings.logits, strict=True)
        ]
        return [jnp.where(first, 0.0, x) for x in sums]

    def pair(group: list[Tile], first: jax.Array, j: Any, carry: tuple, valid: jax.Array | None) -> tuple:
        sums, dq = carry
        latents = only or load_latents(latent_refs, j, valid, settings)
        if not resident:
            # Ask for the next sums now: they come from afar.
            following = load_sums(jnp.minimum(j + 1, tiling.latent_tiles - 1), first)
        new_sums = []
        for points, (dk, dv) in zip(group, sums, strict=True):
            weights, gradients = pair_gradients(points, latents, numbers)
            gradients = [weight_parts(x, latents.value) for x in gradients]
            dv = multiply(weight_parts(weights, latents.value), latents.value, (1, 0), start=dv)
            dk = [multiply(gradients[i], latents.keys[i], (1, 0), start=dk[i]) for i in range(keys)]
            dq = [multiply(gradients[i], points.keys[i], (0, 0), start=dq[i]) for i in range(keys)]
            new_sums.append((dk, dv))
        if not resident:
            for i in range(keys):
                store_rows(dq_refs[i], j * tiling.block_latents, dq[i], settings.logits[i], valid)
            dq = following
        return new_sums, dq

    def tile(index: jax.Array, dq: list[jax.Array], checked: bool) -> list[jax.Array]:
        starts = [index * tiling.block_points + i * tiling.group_points for i in range(tiling.group)]
        group = [
            load_points(
                point_refs,
                start,
                tiling.valid_points(start, split, *mask_ref) if checked else None,
                settings,
                numbers,
                reference,
            )
            for start in starts
        ]
        rows = tiling.group_points
        sums = [(_zeros(rows, settings.logits), *_zeros(rows, (settings.values,))) for _ in group]
        first = index == 0
        carry = sums, dq if resident else load_sums(0, first)
        sums, dq = tiling.fold_latents(functools.partial(pair, group, first), carry)
        for start, points, (dk, dv) in zip(starts, group, sums, strict=True):
            existing = tiling.valid_points(start, split) if checked else None
            dv = dv if points.share is None else points.share[:, None] * dv
            store_rows(dv_ref, start, numbers.dv * dv, settings.values, existing)
            for i, factor in enumerate((numbers.dk, numbers.dk_decode)[:keys]):
                store_rows(dk_refs[i], start, factor * dk[i], settings.logits[i], existing)
        if not resident:
            barrier()
            dq = []
        return dq

    dq = tiling.fold_tiles(split, tile, _zeros(tiling.block_latents, settings.logits) if resident else [])
    for i in range(keys if resident else 0):
        store_rows(dq_refs[i], 0, dq[i], settings.logits[i], tiling.valid_latents(0))


def _group(refs: list[Any], keys: int, masked: bool, earlier: int) -> tuple[Any, ...]:
    """Split the kernel's operands and results into latents, points, mask, dk, dv and dq.

    The results of an `earlier` launch, operands as well, are not read: the other results share their memory.
    """
    sizes = (4 + keys, 5 + keys, int(masked), earlier, keys, 1, keys)
    groups = []
    for size in sizes:
        groups.append(refs[:size])
        refs = refs[size:]
    latents, points, mask, _, dk, (dv,), dq = groups
    return latents, points, mask, dk, dv, dq


def _one_exponential(maximum: jax.Array, point_maximum: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the reference c `[B, H, 1]` of one exponential and the latents' factors `[B, H, M]`.

    Heads whose maxima, `[B, H, M]` and `[B, H, N]`, lie too far apart have an infinite reference and factors of 1.
    """
    reference = jnp.max(maximum, axis=-1, keepdims=True)
    lowest = jnp.minimum(jnp.min(maximum, axis=-1), jnp.min(point_maximum, axis=-1))[..., None]
    near = reference - lowest <= _WIDEST_RANGE
    return jnp.where(near, reference, jnp.inf), jnp.where(near, jnp.exp2(reference - maximum), 1.0)


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
    dtype, keys = y.dtype, 2 if operands.separate else 1
    layout = Layout.create(blocks, operands, all_latents=True)
    dz_over_mass = dz / statistics.divisor[..., None]
    mean = jnp.sum(dz_over_mass * statistics.latents, axis=-1, keepdims=True)
    # Factors of one exponential span more than parts of float32 can hold.
    one_exponential = blocks.one_exponential and not operands.separate and not is_split(dtype)
    references = []
    if one_exponential:
        reference, share = _one_exponential(statistics.maximum, point_statistics[0])
        references, dz_over_mass, mean = [reference], dz_over_mass * share[..., None], mean * share[..., None]
    dz_over_mass, latents = dz_over_mass.astype(dtype), statistics.latents.astype(dtype)
    value_exponents = [latent_exponent(x) for x in (latents, dz_over_mass)]
    decode_exponent = point_exponent(dy, operands.mask, point_statistics[1])
    slope = slope_exponent(y.shape[-1], exponents.v + value_exponents[1], decode_exponent + value_exponents[0])
    constants, numbers, number_specs = numbers_operand(
        _numbers(exponents, value_exponents, decode_exponent, slope, weight_exponent(dtype), scale), layout
    )
    read_once = layout.tiling.latent_tiles == 1
    values = zip((latents, dz_over_mass), value_exponents, strict=True)
    latent_values = [stored_parts(scaled(x, exponent), read_once) for x, exponent in values]
    latent_keys = [(operands.q, exponents.q), (operands.q_decode, exponents.q_decode)][:keys]
    latent_keys = [stored_parts(scaled(x, exponent), read_once) for x, exponent in latent_keys]
    point_keys = [operands.k, operands.k_decode][:keys]
    masks, mask_specs = mask_operand(operands.mask, layout)
    widths = tuple(k.shape[-1] for k in point_keys)
    point_values = layout.points(y.shape[-1])
    partial = [layout.partial_latents(width) for width in widths]
    in_specs = [
        *number_specs,
        *[layout.head_numbers(1)] * len(references),
        *map(layout.latents, latent_values),
        *[layout.latent_statistics()] * 2,
        *map(layout.latents, latent_keys),
        *[point_values] * 3,
        *[layout.point_statistics()] * 2,
        *map(layout.points, widths),
        *mask_specs,
    ]
    out_specs = [*map(layout.points, widths), point_values, *[spec for spec, _ in partial]]
    out_shape = [*[jax.ShapeDtypeStruct(x.shape, dtype) for x in (*point_keys, y)], *[shape for _, shape in partial]]
    arguments = (
        *numbers,
        *references,
        *latent_values,
        statistics.maximum - weight_exponent(dtype),
        scaled(mean, slope - weight_exponent(dtype))[..., 0],
        *latent_keys,
        operands.v,
        y,
        dy,
        *point_statistics,
        *point_keys,
        *masks,
    )
    results: Sequence[jax.Array] = ()
    # Two launches, for one kernel with both ways would need the registers of both.
    for way in (True, False) if one_exponential else (None,):
        launch = pallas_call(
            functools.partial(_operand_gradient_kernel, settings=Settings(layout, widths, y.shape[-1], way, constants)),
            name="flare_operand_gradients",
            grid=layout.grid,
            in_specs=[*in_specs, *out_specs[: len(results)]],
            out_specs=out_specs,
            out_shape=out_shape,
            num_warps=blocks.warps,
            num_stages=blocks.stages,
            input_output_aliases={len(arguments) + i: i for i in range(len(results))},
        )
        results = launch(*arguments, *results)
    dk, dv = results[:keys], results[keys]
    # An exponent of its own undoes each sum: k is scaled, and so are the gradients of its logits.
    dq = [
        scale * scaled(jnp.sum(x, axis=2), -slope - exponent)
        for x, exponent in zip(results[keys + 1 :], (exponents.k, exponents.k_decode), strict=False)
    ]
    return Operands(dq[0], dk[0], dv, *((dq[1], dk[1]) if operands.separate else ()))


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
            factor=(scale * LOG2_E, -exponents.gather_pair),
            decode_factor=(scale * LOG2_E, -exponents.scatter_pair),
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
