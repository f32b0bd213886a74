"""Second backward kernel: the gradients of q, k and v, with the logits of both softmaxes computed once per tile.

Each program owns the points of one split and loops over all latents for every tile of points. The gradient of q is
summed in registers where one tile holds all latents; else each program sums it in its own part of a float32 buffer,
so that the result never depends on the order in which programs run (README.md, "Kernels").

One exponential can serve both softmaxes. With L_m and l_n the maxima of latent m and point n, and c the largest L_m,
the gather's weight exp(s - L_m) is the scatter's exp(s - l_n) times exp(l_n - c) times exp(c - L_m): the two factors go
into the values of the point and of the latent, and both slopes become one sum of products. This is exact as long as no
factor leaves the range of float32, which is decided per head before the launch.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels._pallas import barrier, pallas_call
from kernels.flare_mixer.dispatch import Blocks
from kernels.flare_mixer.operands import Operands, Statistics
from kernels.flare_mixer.pallas_products import Parts, multiply, split_tile, stored_parts, weight_parts
from kernels.flare_mixer.pallas_specs import Layout, mask_operand
from kernels.flare_mixer.pallas_tiles import LOG2_E, load_parts, load_rows, load_vector, padded_width, store_rows

# Powers of two that the factors of one exponential may span: a weight that is lost then is below 2⁻⁶⁶.
_WIDEST_RANGE = 60.0


class _Settings(NamedTuple):
    """Static facts about one launch: `logits` holds the widths of the one or two pairs of keys, `values` that of v."""

    layout: Layout
    logits: tuple[int, ...]
    values: int
    scale: float
    one_exponential: bool


class _Tile(NamedTuple):
    """What is read of one tile of points or latents.

    `keys` are its factors in the logits: one if both softmaxes share them, else the gather's and the scatter's. `value`
    meets the other side's `value` in the slope of the gather's logits, `decode_value` that of the scatter's: for points
    these are v and dy / mass, for latents dz / mass and z. `maximum` and `mean` belong to the softmax that each row of
    this tile is normalised by. With one exponential `share` is the points' factor, which `value` has in it too, and the
    latents' factor is in their `value` and `mean`.
    """

    keys: list[Parts]
    value: Parts
    decode_value: Parts
    maximum: jax.Array
    mean: jax.Array
    valid: jax.Array | None
    share: jax.Array | None = None


def _load_latents(refs: list[Any], index: Any, valid: jax.Array | None, settings: _Settings) -> _Tile:
    z_ref, dz_ref, maximum_ref, mean_ref, *key_refs = refs
    rows = settings.layout.tiling.block_latents
    start = index * rows
    return _Tile(
        keys=[load_parts(ref, start, rows, w, valid) for ref, w in zip(key_refs, settings.logits, strict=True)],
        value=load_parts(dz_ref, start, rows, settings.values, valid),
        decode_value=load_parts(z_ref, start, rows, settings.values, valid),
        maximum=load_vector(maximum_ref, start, rows, valid, jnp.inf),
        mean=load_vector(mean_ref, start, rows, valid, 0.0),
        valid=valid,
    )


def _load_points(
    refs: list[Any], start: jax.Array, valid: jax.Array | None, settings: _Settings, reference: jax.Array | None
) -> _Tile:
    v_ref, y_ref, dy_ref, maximum_ref, mass_ref, *key_refs = refs
    rows = settings.layout.tiling.group_points
    dy = load_rows(dy_ref, start, rows, settings.values, valid)
    y = load_rows(y_ref, start, rows, settings.values, valid).astype(jnp.float32)
    mass = load_vector(mass_ref, start, rows, valid, 1.0)
    dy_over_mass = dy.astype(jnp.float32) * (1.0 / mass)[:, None]
    keys = [load_rows(ref, start, rows, w, valid) for ref, w in zip(key_refs, settings.logits, strict=True)]
    value = load_rows(v_ref, start, rows, settings.values, valid)
    maximum, share = load_vector(maximum_ref, start, rows, valid, jnp.inf), None
    if reference is not None:
        share = jnp.exp2(maximum - reference)
        if valid is not None:
            share = jnp.where(valid, share, 0.0)
        value = (value.astype(jnp.float32) * share[:, None]).astype(value.dtype)
    return _Tile(
        keys=[split_tile(key) for key in keys],
        value=split_tile(value),
        decode_value=split_tile(dy_over_mass.astype(dy.dtype)),
        maximum=maximum,
        mean=jnp.sum(dy_over_mass * y, axis=1),
        valid=valid,
        share=share,
    )


def _pair_gradients(points: _Tile, latents: _Tile, settings: _Settings) -> tuple[jax.Array, list[jax.Array]]:
    """Return the gather's weights and the gradients of the one or two logits, `[points, latents]`, up to `scale`.

    The weights are not normalised: the masses have been divided out of `value`, `decode_value` and `mean`. With one
    exponential they are the scatter's, without the factors that make them the gather's.
    """
    factor = settings.scale * LOG2_E
    raw = [multiply(k, q, (1, 1)) for k, q in zip(points.keys, latents.keys, strict=True)]
    if points.valid is not None:
        raw = [jnp.where(points.valid[:, None], x, -jnp.inf) for x in raw]
    if latents.valid is not None:
        raw = [jnp.where(latents.valid[None, :], x, -jnp.inf) for x in raw]
    if points.share is not None:
        weights = jnp.exp2(raw[0] * factor - points.maximum[:, None])
        slope = multiply(points.decode_value, latents.decode_value, (1, 1))
        slope = multiply(points.value, latents.value, (1, 1), start=slope) - points.mean[:, None]
        return weights, [weights * (slope - points.share[:, None] * latents.mean[None, :])]
    weights = jnp.exp2(raw[0] * factor - latents.maximum[None, :])
    gradient = weights * (multiply(points.value, latents.value, (1, 1)) - latents.mean[None, :])
    decode_weights = jnp.exp2(raw[-1] * factor - points.maximum[:, None])
    slope = multiply(points.decode_value, latents.decode_value, (1, 1)) - points.mean[:, None]
    decode_gradient = decode_weights * slope
    shared = len(raw) == 1
    return weights, [gradient + decode_gradient] if shared else [gradient, decode_gradient]


def _zeros(rows: int, widths: tuple[int, ...]) -> list[jax.Array]:
    return [jnp.zeros((rows, padded_width(width)), jnp.float32) for width in widths]


def _operand_gradient_kernel(*refs: Any, settings: _Settings) -> None:
    """Gradients of the points of one split, with one exponential for both softmaxes in the heads that allow it."""
    split = pl.program_id(1)  # the interpreter knows it at the top level of a kernel only
    if not settings.one_exponential:
        _split_gradients(refs, split, None, settings)
        return
    reference_ref, *others = refs
    reference = reference_ref[0]
    pl.when(reference < jnp.inf)(lambda: _split_gradients(others, split, reference, settings))
    pl.when(reference == jnp.inf)(lambda: _split_gradients(others, split, None, settings))


def _split_gradients(refs: Sequence[Any], split: jax.Array, reference: jax.Array | None, settings: _Settings) -> None:
    """Gradients of the points of one split, and this split's part of the gradients of the latents' keys."""
    tiling = settings.layout.tiling
    keys = len(settings.logits)
    latent_refs, point_refs, mask_ref, dk_refs, dv_ref, dq_refs = _group(list(refs), keys, tiling.masked)
    resident = tiling.latent_tiles == 1
    only = _load_latents(latent_refs, 0, tiling.valid_latents(0), settings) if resident else None

    def load_sums(j: Any, first: jax.Array) -> list[jax.Array]:
        """Load this program's own sums of the gradients of a tile of latents; its first tile of points starts them."""
        start, valid = j * tiling.block_latents, tiling.valid_latents(j)
        sums = [
            load_rows(ref, start, tiling.block_latents, w, valid)
            for ref, w in zip(dq_refs, settings.logits, strict=True)
        ]
        return [jnp.where(first, 0.0, x) for x in sums]

    def pair(group: list[_Tile], first: jax.Array, j: Any, carry: tuple, valid: jax.Array | None) -> tuple:
        sums, dq = carry
        latents = only or _load_latents(latent_refs, j, valid, settings)
        if not resident:
            # Ask for the next sums now: they come from afar.
            following = load_sums(jnp.minimum(j + 1, tiling.latent_tiles - 1), first)
        new_sums = []
        for points, (dk, dv) in zip(group, sums, strict=True):
            weights, gradients = _pair_gradients(points, latents, settings)
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
            _load_points(
                point_refs,
                start,
                tiling.valid_points(start, split, *mask_ref) if checked else None,
                settings,
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
            store_rows(dv_ref, start, dv, settings.values, existing)
            for i in range(keys):
                store_rows(dk_refs[i], start, settings.scale * dk[i], settings.logits[i], existing)
        if not resident:
            barrier()
            dq = []
        return dq

    dq = tiling.fold_tiles(split, tile, _zeros(tiling.block_latents, settings.logits) if resident else [])
    for i in range(keys if resident else 0):
        store_rows(dq_refs[i], 0, dq[i], settings.logits[i], tiling.valid_latents(0))


def _group(refs: list[Any], keys: int, masked: bool) -> tuple[Any, ...]:
    """Split the kernel's operands and results into latents, points, mask, dk, dv and dq."""
    sizes = (4 + keys, 5 + keys, int(masked), keys, 1, keys)
    groups = []
    for size in sizes:
        groups.append(refs[:size])
        refs = refs[size:]
    latents, points, mask, dk, (dv,), dq = groups
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
    dtype = y.dtype
    layout = Layout.create(blocks, operands, all_latents=True)
    dz_over_mass = dz / statistics.divisor[..., None]
    mean = jnp.sum(dz_over_mass * statistics.latents, axis=-1)
    one_exponential = blocks.one_exponential and not operands.separate
    references = []
    if one_exponential:
        reference, share = _one_exponential(statistics.maximum, point_statistics[0])
        references, dz_over_mass, mean = [reference], dz_over_mass * share[..., None], mean * share
    read_once = layout.tiling.latent_tiles == 1
    latent_values = [stored_parts(x.astype(dtype), read_once) for x in (statistics.latents, dz_over_mass)]
    latent_keys = [operands.q, operands.q_decode] if operands.separate else [operands.q]
    latent_keys = [stored_parts(x, read_once) for x in latent_keys]
    point_keys = [operands.k, operands.k_decode] if operands.separate else [operands.k]
    masks, mask_specs = mask_operand(operands.mask, layout)
    widths = tuple(k.shape[-1] for k in point_keys)
    values = layout.points(y.shape[-1])
    partial = [layout.partial_latents(width) for width in widths]
    settings = _Settings(layout, widths, y.shape[-1], scale, one_exponential)
    launch = pallas_call(
        functools.partial(_operand_gradient_kernel, settings=settings),
        name="flare_operand_gradients",
        grid=layout.grid,
        in_specs=[
            *[layout.head_scalar()] * len(references),
            *map(layout.latents, latent_values),
            *[layout.latent_statistics()] * 2,
            *map(layout.latents, latent_keys),
            *[values] * 3,
            *[layout.point_statistics()] * 2,
            *map(layout.points, widths),
            *mask_specs,
        ],
        out_specs=[*map(layout.points, widths), values, *[spec for spec, _ in partial]],
        out_shape=[*[jax.ShapeDtypeStruct(x.shape, dtype) for x in (*point_keys, y)], *[shape for _, shape in partial]],
        num_warps=blocks.warps,
        num_stages=blocks.stages,
    )
    results = launch(
        *references,
        *latent_values,
        statistics.maximum,
        mean,
        *latent_keys,
        operands.v,
        y,
        dy,
        *point_statistics,
        *point_keys,
        *masks,
    )
    keys = len(widths)
    dk, dv, dq = results[:keys], results[keys], [scale * jnp.sum(x, axis=2) for x in results[keys + 1 :]]
    return Operands(dq[0], dk[0], dv, *((dq[1], dk[1]) if operands.separate else ()))
