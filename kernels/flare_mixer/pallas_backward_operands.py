"""Second backward kernel: the gradients of q, k and v, with the logits of both softmaxes computed once per tile.

Each program owns the points of one split and loops over all latents for every tile of points. The gradient of q is
summed in registers where one tile holds all latents; else each program sums it in its own part of a float32 buffer,
so that the result never depends on the order in which programs run (README.md, "Kernels").
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels._pallas import barrier, pallas_call
from kernels.flare_mixer.dispatch import Blocks
from kernels.flare_mixer.operands import Operands, Statistics
from kernels.flare_mixer.pallas_specs import Layout, mask_operand
from kernels.flare_mixer.pallas_tiles import LOG2_E, dot, load_rows, load_vector, padded_width, store_rows


class _Settings(NamedTuple):
    """Static facts about one launch: `logits` holds the widths of the one or two pairs of keys, `values` that of v."""

    layout: Layout
    logits: tuple[int, ...]
    values: int
    scale: float
    exact: str


class _Tile(NamedTuple):
    """What is read of one tile of points or latents.

    `keys` are its factors in the logits: one if both softmaxes share them, else the gather's and the scatter's. `value`
    meets the other side's `value` in the slope of the gather's logits, `decode_value` that of the scatter's: for points
    these are v and dy / mass, for latents dz / mass and z. `maximum` and `mean` belong to the softmax that each row of
    this tile is normalised by.
    """

    keys: list[jax.Array]
    value: jax.Array
    decode_value: jax.Array
    maximum: jax.Array
    mean: jax.Array
    valid: jax.Array | None


def _load_latents(refs: list[Any], index: Any, valid: jax.Array | None, settings: _Settings) -> _Tile:
    z_ref, dz_ref, maximum_ref, mean_ref, *key_refs = refs
    rows = settings.layout.tiling.block_latents
    start = index * rows
    return _Tile(
        keys=[load_rows(ref, start, rows, w, valid) for ref, w in zip(key_refs, settings.logits, strict=True)],
        value=load_rows(dz_ref, start, rows, settings.values, valid),
        decode_value=load_rows(z_ref, start, rows, settings.values, valid),
        maximum=load_vector(maximum_ref, start, rows, valid, jnp.inf),
        mean=load_vector(mean_ref, start, rows, valid, 0.0),
        valid=valid,
    )


def _load_points(refs: list[Any], start: jax.Array, valid: jax.Array | None, settings: _Settings) -> _Tile:
    v_ref, y_ref, dy_ref, maximum_ref, mass_ref, *key_refs = refs
    rows = settings.layout.tiling.block_points
    dy = load_rows(dy_ref, start, rows, settings.values, valid)
    y = load_rows(y_ref, start, rows, settings.values, valid).astype(jnp.float32)
    mass = load_vector(mass_ref, start, rows, valid, 1.0)
    dy_over_mass = dy.astype(jnp.float32) * (1.0 / mass)[:, None]
    return _Tile(
        keys=[load_rows(ref, start, rows, w, valid) for ref, w in zip(key_refs, settings.logits, strict=True)],
        value=load_rows(v_ref, start, rows, settings.values, valid),
        decode_value=dy_over_mass.astype(dy.dtype),
        maximum=load_vector(maximum_ref, start, rows, valid, jnp.inf),
        mean=jnp.sum(dy_over_mass * y, axis=1),
        valid=valid,
    )


def _pair_gradients(points: _Tile, latents: _Tile, settings: _Settings) -> tuple[jax.Array, list[jax.Array]]:
    """Return the gather's weights and the gradients of the one or two logits, `[points, latents]`, up to `scale`.

    The weights are not normalised: the masses have been divided out of `value`, `decode_value` and `mean`.
    """
    exact, factor = settings.exact, settings.scale * LOG2_E
    raw = [dot(k, q, (1, 1), exact) for k, q in zip(points.keys, latents.keys, strict=True)]
    if points.valid is not None:
        raw = [jnp.where(points.valid[:, None], x, -jnp.inf) for x in raw]
    if latents.valid is not None:
        raw = [jnp.where(latents.valid[None, :], x, -jnp.inf) for x in raw]
    weights = jnp.exp2(raw[0] * factor - latents.maximum[None, :])
    gradient = weights * (dot(points.value, latents.value, (1, 1), exact) - latents.mean[None, :])
    decode_weights = jnp.exp2(raw[-1] * factor - points.maximum[:, None])
    slope = dot(points.decode_value, latents.decode_value, (1, 1), exact) - points.mean[:, None]
    decode_gradient = decode_weights * slope
    shared = len(raw) == 1
    return weights, [gradient + decode_gradient] if shared else [gradient, decode_gradient]


def _add_rows(ref: Any, start: Any, value: jax.Array, first: jax.Array, width: int, valid: jax.Array | None) -> None:
    """Add to rows of this program's own buffer, which its first tile of points starts."""
    before = load_rows(ref, start, value.shape[0], width, valid)
    store_rows(ref, start, jnp.where(first, 0.0, before) + value, width, valid)


def _zeros(rows: int, widths: tuple[int, ...]) -> list[jax.Array]:
    return [jnp.zeros((rows, padded_width(width)), jnp.float32) for width in widths]


def _operand_gradient_kernel(*refs: Any, settings: _Settings) -> None:
    """Gradients of the points of one split, and this split's part of the gradients of the latents' keys."""
    tiling, exact = settings.layout.tiling, settings.exact
    keys = len(settings.logits)
    latent_refs, point_refs, mask_ref, dk_refs, dv_ref, dq_refs = _group(list(refs), keys, tiling.masked)
    split = pl.program_id(1)
    resident = tiling.latent_tiles == 1
    only = _load_latents(latent_refs, 0, tiling.valid_latents(0), settings) if resident else None

    def pair(points: _Tile, first: jax.Array, j: Any, carry: tuple, valid: jax.Array | None) -> tuple:
        dk, dv, dq = carry
        latents = only or _load_latents(latent_refs, j, valid, settings)
        weights, gradients = _pair_gradients(points, latents, settings)
        gradients = [x.astype(latents.value.dtype) for x in gradients]
        dv = dv + dot(weights.astype(latents.value.dtype), latents.value, (1, 0), exact)
        dk = [dk[i] + dot(gradients[i], latents.keys[i], (1, 0), exact) for i in range(keys)]
        parts = [dot(gradients[i], points.keys[i], (0, 0), exact) for i in range(keys)]
        if resident:
            return dk, dv, [dq[i] + parts[i] for i in range(keys)]
        for i in range(keys):
            _add_rows(dq_refs[i], j * tiling.block_latents, parts[i], first, settings.logits[i], valid)
        return dk, dv, dq

    def tile(index: jax.Array, dq: list[jax.Array], checked: bool) -> list[jax.Array]:
        start = index * tiling.block_points
        valid = tiling.valid_points(index, split, *mask_ref) if checked else None
        points = _load_points(point_refs, start, valid, settings)
        (dv,) = _zeros(tiling.block_points, (settings.values,))
        carry = (_zeros(tiling.block_points, settings.logits), dv, dq)
        dk, dv, dq = tiling.fold_latents(functools.partial(pair, points, index == 0), carry)
        existing = tiling.valid_points(index, split) if checked else None
        store_rows(dv_ref, start, dv, settings.values, existing)
        for i in range(keys):
            store_rows(dk_refs[i], start, settings.scale * dk[i], settings.logits[i], existing)
        if not resident:
            barrier()
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
    latent_values = [statistics.latents.astype(dtype), dz_over_mass.astype(dtype)]
    latent_keys = [operands.q, operands.q_decode] if operands.separate else [operands.q]
    point_keys = [operands.k, operands.k_decode] if operands.separate else [operands.k]
    masks, mask_specs = mask_operand(operands.mask, layout)
    widths = tuple(k.shape[-1] for k in point_keys)
    values = layout.points(y.shape[-1])
    partial = [layout.partial_latents(width) for width in widths]
    settings = _Settings(layout, widths, y.shape[-1], scale, blocks.exact)
    launch = pallas_call(
        functools.partial(_operand_gradient_kernel, settings=settings),
        name="flare_operand_gradients",
        grid=layout.grid,
        in_specs=[
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
