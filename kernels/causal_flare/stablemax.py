"""The causal mixer with stablemax for softmax in the gather: weights without exponentials (README.md, "Stablemax")."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from kernels._checks import check_are_arrays, check_scale, describe
from kernels._implementation import Request
from kernels._products import Einsum, float32_einsum
from kernels.causal_flare import table
from kernels.causal_flare.operands import Operands, zero_masked
from kernels.causal_flare.validation import check_operands, check_sizes
from kernels.causal_linear_attention import causal_linear_attention
from kernels.causal_linear_attention import table as linear_attention

# Tokens of a chunk with a write gate, whose weights are an array of its length squared per latent.
_GATED_CHUNK = 16


class StablemaxState(NamedTuple):
    """What later tokens need of earlier ones, float32: sums of weights `[B, H, M]` and the latents `[B, H, M, C]`."""

    mass: jax.Array
    latents: jax.Array


class _Tokens(NamedTuple):
    """Weights of gathering and reading and write gate, which may be None, `[B, N, H, M]`, values `[B, N, H, C]`."""

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

    `implementation` is one of `causal_linear_attention`, whose kernels do the work in float32, but "reference" goes
    token by token; with `write_gate` it is "reference" or "xla" (chunks). None chooses by device and shape. A single
    token costs the same after any number of earlier ones. Raises ValueError as `causal_flare` does.
    """
    scale, power = check_scale(scale), _check_power(power)
    if q_decode is not None or k_decode is not None:
        q_decode = q if q_decode is None else q_decode
        k_decode = k if k_decode is None else k_decode
    check_operands(Operands(q, k, v, q_decode, k_decode, mask))
    batch, points, heads, _ = k.shape
    latents, channels = q.shape[1], v.shape[-1]
    _check_arrays(write_gate, initial_state, (batch, points, heads, latents), channels)
    operation = linear_attention.OPERATION if write_gate is None else table.GATED_STABLEMAX
    selection = operation.resolve(implementation, Request("float32", max(latents, channels), points))
    state = init_stablemax_state(batch, heads, latents, channels) if initial_state is None else initial_state
    einsum = functools.partial(float32_einsum, v.dtype == jnp.float32)
    k, v, k_decode = (zero_masked(x, mask) for x in (k, v, k_decode))
    logits = scale * einsum("hmd,bnhd->bnhm", q, k)
    read_logits = logits if q_decode is None else scale * einsum("hmd,bnhd->bnhm", q_decode, k_decode)
    write = zero_masked(stablemax_weights(logits, power), mask)
    tokens = _Tokens(write, jax.nn.softmax(read_logits, axis=-1), v, write_gate)
    recurrent = "reference" in selection.candidates
    if write_gate is None and not recurrent:
        y, state = jax.checkpoint(functools.partial(_add_up, implementation))(tokens, state)
    else:
        y, state = _in_chunks(tokens, state, 1 if recurrent else min(points, _GATED_CHUNK), einsum)
    y = zero_masked(y, mask).astype(v.dtype)
    return (y, state) if return_state else y


def stablemax_weights(logits: jax.Array, power: float) -> jax.Array:
    """Return s(logits), of slope `power` at 0 from both sides."""
    return jnp.power(1 + jnp.maximum(logits, 0), power) * jnp.power(1 + jnp.maximum(-logits, 0), -power)


def _add_up(implementation: str | None, tokens: _Tokens, state: StablemaxState) -> tuple[jax.Array, StablemaxState]:
    """Return outputs and the state after the tokens: sums of positive weights need no maximum.

    They are float32 ones for all dtypes: gradients of weights are differences of sums over all later tokens.
    """
    mass, total = state.mass[:, None] + jnp.cumsum(tokens.write, axis=1), state.latents * state.mass[..., None]
    if implementation is None and mass.shape[1] == 1:  # no tile for a kernel
        implementation = "xla"
    options = {"scale": 1.0, "initial_state": total, "implementation": implementation, "return_state": True}
    share, v = tokens.read / _divisor(mass), tokens.v.astype(jnp.float32)
    y, total = causal_linear_attention(share, tokens.write, v, **options)
    return y, StablemaxState(mass[:, -1], total / _divisor(mass[:, -1, ..., None]))


def _in_chunks(tokens: _Tokens, state: StablemaxState, size: int, einsum: Einsum) -> tuple[jax.Array, StablemaxState]:
    """Return outputs and the state after the tokens; without a gate it is 1, with which latents are running means."""
    batch, points, heads, channels = tokens.v.shape

    def cut(x: jax.Array) -> jax.Array:
        x = jnp.pad(x, ((0, 0), (0, -points % size), (0, 0), (0, 0)))
        return jnp.moveaxis(x.reshape(batch, -1, size, *x.shape[2:]), 1, 0)

    gate = jnp.ones_like(tokens.write) if tokens.gate is None else tokens.gate
    chunks = jax.tree.map(cut, tokens._replace(gate=gate.astype(jnp.float32)))
    state, y = jax.lax.scan(jax.checkpoint(functools.partial(_write_gated, einsum)), state, chunks)
    return jnp.moveaxis(y, 0, 1).reshape(batch, -1, heads, channels)[:, :points], state


def _write_gated(einsum: Einsum, state: StablemaxState, tokens: _Tokens) -> tuple[StablemaxState, jax.Array]:
    """Return the state after a chunk and its outputs; what a token leaves of earlier ones may be exactly nothing."""
    write, read, gate = (jnp.moveaxis(x, 1, 3) for x in (tokens.write, tokens.read, tokens.gate))
    mass = state.mass[..., None] + jnp.cumsum(write, axis=-1)
    written = gate * write / _divisor(mass)
    order = jnp.arange(mass.shape[-1])
    later = order[None, :] > order[:, None]
    # Products, not differences of logarithms: [τ, t] is what the tokens after τ up to t leave.
    left = jnp.cumprod(jnp.where(later, 1 - written[..., None, :], 1.0), axis=-1)
    weights = jnp.where(later | (order[None, :] == order[:, None]), left, 0.0) * written[..., None]
    kept = jnp.cumprod(1 - written, axis=-1)
    y = einsum("bhmt,bhmc->bthc", read * kept, state.latents)
    y = y + einsum("bhtn,bnhc->bthc", jnp.sum(read[..., None, :] * weights, axis=2).swapaxes(2, 3), tokens.v)
    latents = kept[..., -1:] * state.latents + einsum("bhmn,bnhc->bhmc", weights[..., -1], tokens.v)
    return StablemaxState(mass[..., -1], latents), y


def _divisor(mass: jax.Array) -> jax.Array:
    return jnp.where(mass == 0, 1.0, mass)


def _check_arrays(gate: jax.Array | None, state: StablemaxState | None, sizes: tuple[int, ...], channels: int) -> None:
    """Raise ValueError unless write gate and state are absent or of the right shape and dtype."""
    check_are_arrays({"write_gate": gate}, absent=("write_gate",))
    batch, _, heads, latents = sizes
    if gate is not None and gate.shape != sizes:
        raise ValueError(f"write_gate has shape {describe(gate)}; give an array [B,N,H,M] of shape {describe(sizes)}.")
    if state is None:
        return
    check_are_arrays({f"the state's {name}": getattr(state, name, None) for name in StablemaxState._fields})
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
