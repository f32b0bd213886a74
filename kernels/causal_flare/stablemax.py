"""The causal mixer with stablemax for softmax in the gather: weights without exponentials (README.md, "Stablemax")."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from kernels._checks import check_scale, describe
from kernels._operation import Request
from kernels._products import Einsum, float32_einsum
from kernels.causal_flare import table
from kernels.causal_flare.operands import Operands, zero_masked
from kernels.causal_flare.validation import check_operands, check_sizes

# Tokens of a chunk; with a write gate the weights of a chunk are an array of its length squared per latent.
_CHUNK, _GATED_CHUNK = 64, 16


class StablemaxState(NamedTuple):
    """What later tokens need of earlier ones, float32: sums of weights `[B, H, M]` and the latents `[B, H, M, C]`."""

    mass: jax.Array
    latents: jax.Array


class _Tokens(NamedTuple):
    """Weights of gathering and reading `[B, H, M, n]`, values `[B, n, H, C]`, write gate `[B, H, M, n]` or None."""

    write: jax.Array
    read: jax.Array
    v: jax.Array
    gate: jax.Array | None


def init_stablemax_state(batch: int, heads: int, latents: int, channels: int) -> StablemaxState:
    """Return the state before the first token: zeros; ValueError for a size that is not positive."""
    check_sizes(batch=batch, heads=heads, latents=latents, channels=channels)
    return StablemaxState(jnp.zeros((batch, heads, latents)), jnp.zeros((batch, heads, latents, channels)))


def stablemax_flare(
    q: Float[Array, "H M D"],
    k: Float[Array, "B N H D"],
    v: Float[Array, "B N H C"],
    *,
    scale: float | int = 1.0,
    power: float | int = 2.0,
    mask: Bool[Array, "B N"] | None = None,
    q_decode: Float[Array, "H M _"] | None = None,
    k_decode: Float[Array, "B N H _"] | None = None,
    write_gate: Float[Array, "B N H M"] | None = None,
    initial_state: StablemaxState | None = None,
    implementation: str | None = None,
    return_state: bool = False,
) -> Float[Array, "B N H C"] | tuple[Float[Array, "B N H C"], StablemaxState]:
    """Mix tokens as `causal_flare`, gathering with weights `s(σ) = (1 + σ)^power`, `(1 - σ)^-power` below 0.

    Arguments are those of `causal_flare`. With `write_gate` g in [0, 1] a token moves a latent by g times its share of
    all weights so far: `z ← (1 - a) z + a v`, `a = g s(σ_t) / Σ_{τ≤t} s(σ_τ)`.

    `implementation` is "reference" (token by token) or "xla" (chunks); None is "xla". A single token costs the same
    after any number of earlier ones. Raises ValueError as `causal_flare` does.
    """
    scale, power = check_scale(scale), _check_power(power)
    if q_decode is not None or k_decode is not None:
        q_decode = q if q_decode is None else q_decode
        k_decode = k if k_decode is None else k_decode
    check_operands(Operands(q, k, v, q_decode, k_decode, mask))
    batch, points, heads, _ = k.shape
    _check_arrays(write_gate, initial_state, (batch, points, heads, q.shape[1]), v.shape[-1])
    selection = table.STABLEMAX.resolve(implementation, Request(k.dtype.name, k.shape[-1], points))
    state = init_stablemax_state(batch, heads, q.shape[1], v.shape[-1]) if initial_state is None else initial_state
    einsum = functools.partial(float32_einsum, v.dtype == jnp.float32)
    k, v, k_decode = (zero_masked(x, mask) for x in (k, v, k_decode))
    logits = scale * einsum("hmd,bnhd->bhmn", q, k)
    read_logits = logits if q_decode is None else scale * einsum("hmd,bnhd->bhmn", q_decode, k_decode)
    write = stablemax_weights(logits, power)
    if mask is not None:
        write = jnp.where(mask[:, None, None], write, 0.0)
    gate = None if write_gate is None else jnp.transpose(write_gate.astype(jnp.float32), (0, 2, 3, 1))
    tokens = _Tokens(write, jax.nn.softmax(read_logits, axis=2), v, gate)
    size = 1 if "reference" in selection.candidates else min(points, _CHUNK if gate is None else _GATED_CHUNK)
    y, state = _in_chunks(tokens, state, size, einsum)
    y = zero_masked(y, mask).astype(v.dtype)
    return (y, state) if return_state else y


def stablemax_weights(logits: jax.Array, power: float) -> jax.Array:
    """Return s(logits), of slope `power` at 0 from both sides."""
    return jnp.power(1 + jnp.maximum(logits, 0), power) * jnp.power(1 + jnp.maximum(-logits, 0), -power)


def _in_chunks(tokens: _Tokens, state: StablemaxState, size: int, einsum: Einsum) -> tuple[jax.Array, StablemaxState]:
    batch, points, heads, channels = tokens.v.shape

    def cut_last(x: jax.Array) -> jax.Array:
        x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, -points % size)))
        return jnp.moveaxis(x.reshape(*x.shape[:3], -1, size), 3, 0)

    v = jnp.pad(tokens.v, ((0, 0), (0, -points % size), (0, 0), (0, 0)))
    v = jnp.moveaxis(v.reshape(batch, -1, size, heads, channels), 1, 0)
    write, read, gate = jax.tree.map(cut_last, (tokens.write, tokens.read, tokens.gate))
    step = jax.checkpoint(functools.partial(_add_up if gate is None else _write_gated, einsum))
    state, y = jax.lax.scan(step, state, _Tokens(write, read, v, gate))
    return jnp.moveaxis(y, 0, 1).reshape(batch, -1, heads, channels)[:, :points], state


def _add_up(einsum: Einsum, state: StablemaxState, tokens: _Tokens) -> tuple[StablemaxState, jax.Array]:
    """Return the state after a chunk and its outputs: two products, for sums of positive weights need no maximum."""
    mass = state.mass[..., None] + jnp.cumsum(tokens.write, axis=-1)
    share = tokens.read / _divisor(mass)
    total = state.latents * state.mass[..., None]
    seen = jnp.tri(mass.shape[-1], dtype=bool)
    mixing = jnp.where(seen, einsum("bhmt,bhmn->bhtn", share, tokens.write), 0.0)
    y = einsum("bhmt,bhmc->bthc", share, total) + einsum("bhtn,bnhc->bthc", mixing, tokens.v)
    total = total + einsum("bhmn,bnhc->bhmc", tokens.write, tokens.v)
    return StablemaxState(mass[..., -1], total / _divisor(mass[..., -1:])), y


def _write_gated(einsum: Einsum, state: StablemaxState, tokens: _Tokens) -> tuple[StablemaxState, jax.Array]:
    """Return the state after a chunk and its outputs; what a token leaves of earlier ones may be exactly nothing."""
    mass = state.mass[..., None] + jnp.cumsum(tokens.write, axis=-1)
    written = tokens.gate * tokens.write / _divisor(mass)
    order = jnp.arange(mass.shape[-1])
    later = order[None, :] > order[:, None]
    # Products, not differences of logarithms: [τ, t] is what the tokens after τ up to t leave.
    left = jnp.cumprod(jnp.where(later, 1 - written[..., None, :], 1.0), axis=-1)
    weights = jnp.where(later | (order[None, :] == order[:, None]), left, 0.0) * written[..., None]
    kept = jnp.cumprod(1 - written, axis=-1)
    y = einsum("bhmt,bhmc->bthc", tokens.read * kept, state.latents)
    y = y + einsum("bhtn,bnhc->bthc", jnp.sum(tokens.read[..., None, :] * weights, axis=2).swapaxes(2, 3), tokens.v)
    latents = kept[..., -1:] * state.latents + einsum("bhmn,bnhc->bhmc", weights[..., -1], tokens.v)
    return StablemaxState(mass[..., -1], latents), y


def _divisor(mass: jax.Array) -> jax.Array:
    return jnp.where(mass == 0, 1.0, mass)


def _check_arrays(gate: jax.Array | None, state: StablemaxState | None, sizes: tuple[int, ...], channels: int) -> None:
    """Raise ValueError unless write gate and state are absent or of the right shape and dtype."""
    batch, _, heads, latents = sizes
    if gate is not None and gate.shape != sizes:
        raise ValueError(f"write_gate has shape {describe(gate)}; give an array [B,N,H,M] of shape {describe(sizes)}.")
    if state is None:
        return
    shape = (batch, heads, latents)
    for name, expected in (("mass", shape), ("latents", (*shape, channels))):
        x = getattr(state, name)
        if x.shape != expected or x.dtype != jnp.float32:
            raise ValueError(
                f"the state's {name} has shape {describe(x)} and dtype {x.dtype}; "
                f"give a float32 array of shape {describe(expected)}, as init_stablemax_state makes it."
            )


def _check_power(power: float | int) -> float:
    """Return the power as a float, or raise ValueError unless it is a positive finite number."""
    if isinstance(power, bool) or not isinstance(power, int | float) or not 0 < power < float("inf"):
        raise ValueError(f"power is {power!r}; give a positive finite number, such as 2.")
    return float(power)
