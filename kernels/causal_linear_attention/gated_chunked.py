"""Linear attention with decay in XLA: chunks of points side by side, memory O(N), on any device (README.md, "Decay").

Differentiated by JAX, with everything computed again in the backward.
"""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from kernels._products import Einsum, float32_einsum
from kernels.causal_linear_attention.gated_scheme import Backend, separate_resets

# Points of a chunk, between which states are kept, and of a tile, in which channels that decay differently are paired.
_CHUNK, _TILE = 64, 16


@dataclass(frozen=True)
class ChunkedBackend(Backend):
    """Forward and backward in array code."""

    def forward(
        self, q: jax.Array, k: jax.Array, v: jax.Array, decay: jax.Array, state: jax.Array, scale: float
    ) -> tuple[jax.Array, jax.Array, None]:
        y, state = _mix(scale, q, k, v, decay, state)
        return y, state, None

    def backward(
        self,
        arrays: tuple[jax.Array, ...],
        kept: dict[int, jax.Array],
        dy: jax.Array,
        dfinal: jax.Array,
        scale: float,
    ) -> tuple[jax.Array, ...]:
        return jax.vjp(functools.partial(_mix, scale), *arrays)[1]((dy, dfinal))


def _mix(
    scale: float, q: jax.Array, k: jax.Array, v: jax.Array, decay: jax.Array, state: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the outputs, in the dtype of v, and the final state."""
    points, einsum = q.shape[1], functools.partial(float32_einsum, v.dtype == jnp.float32)
    arrays = (scale * q.astype(jnp.float32), k, v, *separate_resets(decay))
    y, state = _attend(einsum, min(points, _CHUNK), arrays, state)
    return y[:, :points].astype(v.dtype), state


def _attend(einsum: Einsum, size: int, arrays: tuple, state: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return outputs of all chunks, padded, and the final state: all chunks side by side, states by a scan of them."""
    q, k, v, decay, resets = (_chunks(x, size) for x in arrays)
    sums, counts = jnp.cumsum(decay, axis=2), jnp.cumsum(resets.astype(jnp.int32), axis=2)
    wide = sums if sums.ndim == 5 else sums[..., None]
    # What a point writes is left at the end of its chunk unless everything is forgotten after it.
    left = jnp.where((counts == counts[:, :, -1:])[..., None], jnp.exp(wide[:, :, -1:] - wide), 0.0)
    added = einsum("bsnhd,bsnhc->bshdc", k * left, v)
    kept = jnp.where((counts[:, :, -1] == 0)[..., None], jnp.exp(wide[:, :, -1]), 0.0)[..., None]
    starts, final = _states_before(state, kept, added)
    seen = jnp.where((counts == 0)[..., None], jnp.exp(wide), 0.0)
    y = einsum("bsnhd,bshdc->bsnhc", q * seen, starts)
    weights = _weights_per_channel(einsum, q, k, sums) if decay.ndim == 5 else _weights(einsum, q, k, sums)
    order = jnp.arange(size)
    alike = jnp.moveaxis(counts, 3, 2)
    allowed = (order[:, None] >= order[None, :]) & (alike[..., :, None] == alike[..., None, :])
    y = y + einsum("bshnm,bsmhc->bsnhc", jnp.where(allowed, weights, 0.0), v)
    return y.reshape(y.shape[0], -1, *y.shape[3:]), final


def _states_before(state: jax.Array, kept: jax.Array, added: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the state `[B, chunks, H, D, C]` at the start of each chunk, and the one after the last."""

    def combine(first: tuple, second: tuple) -> tuple:
        return first[0] * second[0], second[0] * first[1] + second[1]

    kept = jnp.pad(kept, ((0, 0), (1, 0), (0, 0), (0, 0), (0, 0)))
    _, states = jax.lax.associative_scan(combine, (kept, jnp.concatenate([state[:, None], added], axis=1)), axis=1)
    return states[:, :-1], states[:, -1]


def _weights(einsum: Einsum, q: jax.Array, k: jax.Array, sums: jax.Array) -> jax.Array:
    """Return `q_t·k_τ exp(L_t - L_τ)` `[B, chunks, H, t, τ]`, for later τ without the decay."""
    sums = jnp.moveaxis(sums, 3, 2)
    return _decay_between(sums[..., :, None], sums[..., None, :]) * einsum("bsnhd,bsmhd->bshnm", q, k)


def _weights_per_channel(einsum: Einsum, q: jax.Array, k: jax.Array, sums: jax.Array) -> jax.Array:
    """Return `Σ_d q_td k_τd exp(L_td - L_τd)`, 0 for later tiles, in tiles with exponents of at most 0.

    Between tiles both factors are relative to the start of the tile of t. Within a tile no reference point would do:
    the sums are taken over t, τ and d at once.
    """
    size, rows = q.shape[2], []
    for start in range(0, size, _TILE):
        stop = min(start + _TILE, size)
        tile_q, tile_k, tile_sums = (x[:, :, start:stop] for x in (q, k, sums))
        pairs = jax.checkpoint(_pairs)(tile_q, tile_k, tile_sums)
        row = [jnp.moveaxis(pairs, 4, 2), jnp.zeros((*q.shape[:2], q.shape[3], stop - start, size - stop))]
        if start:
            before = sums[:, :, start - 1 : start]
            left, right = tile_q * jnp.exp(tile_sums - before), k[:, :, :start] * jnp.exp(before - sums[:, :, :start])
            row.insert(0, einsum("bsnhd,bsmhd->bshnm", left, right))
        rows.append(jnp.concatenate(row, axis=-1))
    return jnp.concatenate(rows, axis=-2)


def _pairs(q: jax.Array, k: jax.Array, sums: jax.Array) -> jax.Array:
    """Return the sums over channels `[B, chunks, t, τ, H]` of one tile, of which later τ mean nothing."""
    decay = _decay_between(sums[:, :, :, None], sums[:, :, None, :])
    return jnp.sum(q[:, :, :, None] * k[:, :, None, :].astype(jnp.float32) * decay, axis=-1)


def _decay_between(until: jax.Array, since: jax.Array) -> jax.Array:
    """Return exp(until - since), at most 1, of sums of log decays; a difference of 0 has all of its slope."""
    difference = until - since
    return jnp.exp(jnp.where(difference > 0, 0.0, difference))


def _chunks(x: jax.Array, size: int) -> jax.Array:
    x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % size), *((0, 0),) * (x.ndim - 2)))
    return x.reshape(x.shape[0], -1, size, *x.shape[2:])
