"""The kernel of the operands' gradients: the loops over the points of one split and over all latents.

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

from kernels._pallas import barrier
from kernels.flare_mixer.pallas_pair_gradients import (
    Numbers,
    Settings,
    Tile,
    load_latents,
    load_points,
    pair_gradients,
)
from kernels.flare_mixer.pallas_products import multiply, weight_parts
from kernels.flare_mixer.pallas_scales import read_numbers
from kernels.flare_mixer.pallas_tiles import load_rows, padded_width, store_rows


def _zeros(rows: int, widths: tuple[int, ...]) -> list[jax.Array]:
    return [jnp.zeros((rows, padded_width(width)), jnp.float32) for width in widths]


def operand_gradient_kernel(*refs: Any, settings: Settings) -> None:
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
