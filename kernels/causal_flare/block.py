"""The block-causal mixer: a token reads latents that have gathered all blocks up to the end of its own (README.md)."""

import functools

import jax
import jax.numpy as jnp

from kernels._products import float32_einsum
from kernels.causal_flare.operands import LOWEST, Operands, State, merge, reciprocal, zero_masked

# Tokens of whole blocks whose latents are held at once.
_TOKENS = 512


def dense_block_mixer(operands: Operands, state: State, *, scale: float, block: int) -> tuple[jax.Array, State]:
    """Return outputs and final state from all weights at once: memory O(N²M)."""
    einsum = functools.partial(float32_einsum, True)
    k, v, k_decode = (zero_masked(x, operands.mask) for x in (operands.k, operands.v, operands.k_decode))
    logits = scale * einsum("hmd,bnhd->bhmn", operands.q, k)
    read_logits = scale * einsum("hmd,bnhd->bhmn", operands.q_decode, k_decode) if operands.separate else logits
    if operands.mask is not None:
        logits = jnp.where(operands.mask[:, None, None, :], logits, -jnp.inf)
    group = jnp.arange(logits.shape[-1]) // block
    spread = jnp.where(group[:, None] >= group[None, :], logits[..., None, :], -jnp.inf)
    running = jax.lax.stop_gradient(jnp.maximum(state.maximum[..., None], jnp.max(spread, axis=-1)))
    weights, carry = jnp.exp(spread - running[..., None]), jnp.exp(state.maximum[..., None] - running)
    mass = carry * state.mass[..., None] + jnp.sum(weights, axis=-1)
    total = carry[..., None] * state.total[:, :, :, None] + einsum("bhmtn,bnhc->bhmtc", weights, v)
    share = jax.nn.softmax(read_logits, axis=2) * reciprocal(mass)
    y = zero_masked(einsum("bhmt,bhmtc->bthc", share, total), operands.mask)
    return y.astype(operands.v.dtype), State(running[..., -1], mass[..., -1], total[..., -1, :])


def chunked_block_mixer(operands: Operands, state: State, *, scale: float, block: int) -> tuple[jax.Array, State]:
    """Return outputs and final state, some blocks at a time: a scan of merged states and two products per block."""
    batch, points, heads, _ = operands.k.shape
    blocks = max(1, min(_TOKENS, points) // block)
    padding = -points % (blocks * block)
    mask = jnp.ones((batch, points), bool) if operands.mask is None else operands.mask

    def cut(x: jax.Array) -> jax.Array:
        x = jnp.pad(x, ((0, 0), (0, padding), *((0, 0),) * (x.ndim - 2)))
        return jnp.moveaxis(x.reshape(batch, -1, blocks, block, *x.shape[2:]), 1, 0)

    hidden = (zero_masked(x, operands.mask) for x in (operands.k, operands.v, operands.k_decode))
    tokens = jax.tree.map(cut, (*hidden, mask))
    step = jax.checkpoint(functools.partial(_step, operands.q, operands.q_decode, scale, operands.v.dtype))
    state, y = jax.lax.scan(step, state, tokens)
    y = jnp.moveaxis(y, 0, 1).reshape(batch, -1, heads, y.shape[-1])[:, :points]
    return zero_masked(y, operands.mask).astype(operands.v.dtype), state


def _step(
    q: jax.Array, q_decode: jax.Array | None, scale: float, dtype: jnp.dtype, state: State, tokens: tuple
) -> tuple[State, jax.Array]:
    """Return the state after some blocks `[B, blocks, S, H, .]`, and their outputs in the same layout."""
    k, v, k_decode, mask = tokens
    einsum = functools.partial(float32_einsum, dtype == jnp.float32)
    logits = scale * einsum("hmd,bgshd->bhmgs", q, k)
    read_logits = logits if q_decode is None else scale * einsum("hmd,bgshd->bhmgs", q_decode, k_decode)
    logits = jnp.where(mask[:, None, None], logits, -jnp.inf)
    maximum = jax.lax.stop_gradient(jnp.maximum(jnp.max(logits, axis=-1), LOWEST))
    weights = jnp.exp(logits - maximum[..., None])
    sums = State(maximum, jnp.sum(weights, axis=-1), einsum("bhmgs,bgshc->bhmgc", weights, v))
    joined = jax.tree.map(lambda x, y: jnp.concatenate([x[:, :, :, None], y], axis=3), state, sums)
    states = jax.tree.map(lambda x: x[:, :, :, 1:], jax.lax.associative_scan(merge, joined, axis=3))
    share = jax.nn.softmax(read_logits, axis=2) * reciprocal(states.mass)[..., None]
    y = einsum("bhmgs,bhmgc->bgshc", share, states.total)
    return jax.tree.map(lambda x: x[:, :, :, -1], states), y
