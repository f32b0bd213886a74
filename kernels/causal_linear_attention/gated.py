"""Causal linear attention whose state decays: gated linear attention and state-space forms (README.md, "Decay")."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from kernels._checks import check_scale, describe
from kernels._implementation import Request
from kernels._products import Einsum, float32_einsum
from kernels.causal_linear_attention import table
from kernels.causal_linear_attention.validation import check_arrays, check_state

# A log decay below this one forgets everything exactly: sums of log decays stay small enough for float32.
FORGETS_ALL = -1e4
# Points of a chunk, between which states are kept, and of a tile, in which channels that decay differently are paired.
_CHUNK, _TILE = 64, 16


def gated_linear_attention(
    q: Float[Array, "B N H D"],
    k: Float[Array, "B N H D"],
    v: Float[Array, "B N H C"],
    *,
    log_decay: Float[Array, "B N H"] | Float[Array, "B N H D"],
    scale: float | int = 1.0,
    mask: Bool[Array, "B N"] | None = None,
    initial_state: Float[Array, "B H D C"] | None = None,
    implementation: str | None = None,
    return_state: bool = False,
) -> Float[Array, "B N H C"] | tuple[Float[Array, "B N H C"], Float[Array, "B H D C"]]:
    """Attend to earlier points with a state that decays: `S_t = exp(g_t) S_{t-1} + k_t v_tᵀ`, `y_t = scale S_tᵀ q_t`.

    `log_decay` g is float32 and at most 0: one number per head, or one per channel of k, which multiplies its row of S.
    Below -10⁴ in all of a head, minus infinity included, the state is emptied, as at the start of a document. `mask` is
    True for real points: the others leave the state unchanged and get output 0. Of tokens of rank R, Σ_r k^r v^rᵀ,
    outputs and states are the sums of R calls. States are float32 `[B, H, D, C]` and differentiable.

    `implementation` is "reference" (point by point) or "xla" (chunks, memory O(N)); None is "xla". Returns y in the
    dtype of v, with `return_state` also the final state. Raises ValueError for shapes or dtypes that do not fit.

    Source: gated linear attention, arXiv 2312.06635; one decay per head: Mamba-2, arXiv 2405.21060.
    """
    check_arrays(q, k, v, mask)
    check_state(initial_state, q, v.shape[-1])
    _check_decay(log_decay, k)
    scale = check_scale(scale)
    selection = table.GATED.resolve(implementation, Request(q.dtype.name, q.shape[-1], q.shape[1]))
    batch, points, heads, width = q.shape
    state = jnp.zeros((batch, heads, width, v.shape[-1])) if initial_state is None else initial_state
    if mask is not None:
        q, k, v = (jnp.where(mask[:, :, None, None], x, 0) for x in (q, k, v))
        log_decay = jnp.where(mask.reshape(*mask.shape, *(1,) * (log_decay.ndim - 2)), log_decay, 0.0)
    per_channel = log_decay.ndim == 4
    resets = jnp.all(log_decay < FORGETS_ALL, axis=-1) if per_channel else log_decay < FORGETS_ALL
    decay = jnp.maximum(jnp.where(resets[..., None] if per_channel else resets, 0.0, log_decay), FORGETS_ALL)
    arrays = (scale * q.astype(jnp.float32), k, v, decay, resets)
    if "reference" in selection.candidates:
        y, state = _recurrent(arrays, state)
    else:
        einsum = functools.partial(float32_einsum, v.dtype == jnp.float32)
        y, state = jax.checkpoint(functools.partial(_attend, einsum, min(points, _CHUNK)))(arrays, state)
    y = y[:, :points].astype(v.dtype)
    return (y, state) if return_state else y


def _recurrent(arrays: tuple, state: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return outputs and final state point by point: the definition."""

    def step(state: jax.Array, token: tuple) -> tuple[jax.Array, jax.Array]:
        q, k, v, decay, reset = token
        factor = jnp.exp(decay)[..., None] if decay.ndim == 3 else jnp.exp(decay)[..., None, None]
        state = jnp.where(reset[..., None, None], 0.0, factor * state)
        state = state + float32_einsum(True, "bhd,bhc->bhdc", k, v)
        return state, float32_einsum(True, "bhd,bhdc->bhc", q, state)

    state, y = jax.lax.scan(step, state, jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), arrays))
    return jnp.moveaxis(y, 0, 1), state


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
    decay = jnp.exp(jnp.minimum(sums[..., :, None] - sums[..., None, :], 0.0))
    return decay * einsum("bsnhd,bsmhd->bshnm", q, k)


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
    decay = jnp.exp(jnp.minimum(sums[:, :, :, None] - sums[:, :, None, :], 0.0))
    return jnp.sum(q[:, :, :, None] * k[:, :, None, :].astype(jnp.float32) * decay, axis=-1)


def _chunks(x: jax.Array, size: int) -> jax.Array:
    x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % size), *((0, 0),) * (x.ndim - 2)))
    return x.reshape(x.shape[0], -1, size, *x.shape[2:])


def _check_decay(log_decay: jax.Array, k: jax.Array) -> None:
    if log_decay.shape not in (k.shape, k.shape[:3]) or log_decay.dtype != jnp.float32:
        raise ValueError(
            f"log_decay has shape {describe(log_decay)} and dtype {log_decay.dtype}; "
            f"give a float32 array of shape {describe(k.shape[:3])} or {describe(k)}, logarithms of at most 1."
        )
