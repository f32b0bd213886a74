"""The definition of the causal mixer in plain jnp, in two forms that check each other."""

import jax
import jax.numpy as jnp

from kernels.causal_flare.decode import advance
from kernels.causal_flare.operands import FORGETS_ALL, LOWEST, Operands, State, reciprocal


def _float32(x: jax.Array | None, mask: jax.Array | None) -> jax.Array | None:
    """Cast to float32 and zero the masked rows: padding, infinities and NaN included, must not reach a product."""
    if x is None or mask is None:
        return None if x is None else x.astype(jnp.float32)
    return jnp.where(mask[:, :, None, None], x.astype(jnp.float32), 0.0)


def _einsum(subscripts: str, *operands: jax.Array) -> jax.Array:
    return jnp.einsum(subscripts, *operands, precision="highest")


def dense_mixer(operands: Operands, state: State, *, scale: float) -> tuple[jax.Array, State]:
    """Return outputs and final state from all prefix softmaxes at once: memory O(N²M) (README.md, "Definition")."""
    q, q_decode = _float32(operands.q, None), _float32(operands.q_decode, None)
    k, v, k_decode = (_float32(x, operands.mask) for x in (operands.k, operands.v, operands.k_decode))
    logits = scale * _einsum("hmd,bnhd->bhmn", q, k)
    read_logits = scale * _einsum("hmd,bnhd->bhmn", q_decode, k_decode) if operands.separate else logits
    if operands.mask is not None:
        logits = jnp.where(operands.mask[:, None, None, :], logits, -jnp.inf)
    earlier, entering, fading = jnp.tri(logits.shape[-1], dtype=bool), state.maximum[..., None], 0.0
    if operands.log_decay is not None:
        since, kept = _decay_since(operands.token_decay)
        earlier = earlier & kept[:, :, None, 1:, 1:]
        fading = since[:, :, None, 1:, 1:]
        entering = jnp.where(kept[:, :, None, 1:, 0], entering + since[:, :, None, 1:, 0], -jnp.inf)
    spread = jnp.where(earlier, logits[..., None, :] + fading, -jnp.inf)
    running = jnp.maximum(LOWEST, jax.lax.stop_gradient(jnp.maximum(entering, jnp.max(spread, axis=-1))))
    weights = jnp.exp(spread - running[..., None])
    carry = jnp.exp(entering - running)
    mass = carry * state.mass[..., None] + jnp.sum(weights, axis=-1)
    share = jax.nn.softmax(read_logits, axis=2) * reciprocal(mass)
    y = _einsum("bhmt,bhmtn,bhnc->bthc", share, weights, jnp.swapaxes(v, 1, 2))
    y = _float32(y + _einsum("bhmt,bhmc->bthc", share * carry, state.total), operands.mask)
    total = carry[..., -1, None] * state.total + _einsum("bhmn,bnhc->bhmc", weights[..., -1, :], v)
    return y.astype(operands.v.dtype), State(running[..., -1], mass[..., -1], total)


def _decay_since(decay: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return by how much what token τ wrote has faded at token t, and whether it was not forgotten, `[B, H, t, τ]`.

    The first row and column, of N + 1, are those of the state at the start.
    """
    forgets = decay < FORGETS_ALL
    sums = jnp.cumsum(jnp.pad(jnp.where(forgets, 0.0, decay), ((0, 0), (0, 0), (1, 0))), axis=-1)
    resets = jnp.cumsum(jnp.pad(forgets, ((0, 0), (0, 0), (1, 0))), axis=-1)
    return sums[..., :, None] - sums[..., None, :], resets[..., :, None] == resets[..., None, :]


def recurrent_mixer(operands: Operands, state: State, *, scale: float) -> tuple[jax.Array, State]:
    """Return outputs and final state token by token, as decoding computes them."""
    arrays = (operands.k, operands.v, operands.k_decode, operands.mask, operands.log_decay)
    tokens = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), arrays)

    def step(state: State, token: tuple) -> tuple[State, jax.Array]:
        y, state = advance(state, operands.q, operands.q_decode, *token, scale)
        return state, y

    state, y = jax.lax.scan(step, state, tokens)
    return jnp.moveaxis(y, 0, 1), state
