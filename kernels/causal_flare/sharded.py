"""Tokens that are split over a mesh axis: each device needs the state after all tokens of the devices before it.

A device sums its own tokens up, the sums of all devices are gathered, which are small, and merged in order. What
follows is the mixer of its own tokens from that state. All of it is differentiated by JAX: the state's gradients, which
the mixer gives, go back through the merges to the devices that the sums came from.
"""

import functools

import jax
import jax.numpy as jnp

from kernels._products import float32_einsum
from kernels._sharding import vary_alike
from kernels.causal_flare.operands import (
    FORGETS_ALL,
    LOWEST,
    Operands,
    State,
    empty_state,
    fade,
    merge,
)

# Tokens whose weights are held at once.
_TOKENS = 512


def states_around(operands: Operands, initial: State, *, scale: float, axis_name: str) -> tuple[State, State]:
    """Return the state before this device's tokens, and the one after all devices' tokens.

    `initial` is the state before the first device's tokens, the same on all of them.
    """
    own, fading = sum_up(operands, scale=scale)
    sums, fadings = jax.lax.all_gather((own, fading), axis_name)
    index, state, before = jax.lax.axis_index(axis_name), initial, initial
    for device in range(jax.lax.axis_size(axis_name)):
        before = jax.tree.map(functools.partial(jnp.where, device == index), state, before)
        state = merge(fade(state, fadings[device][..., None]), jax.tree.map(lambda x, n=device: x[n], sums))
    return before, state


def sum_up(operands: Operands, *, scale: float) -> tuple[State, jax.Array]:
    """Return the state after the tokens alone, relative to the last one, and the sum `[B, H]` of their log decays.

    One softmax per latent: without the reading that is one exponential per token and latent. A sum of log decays is
    minus infinity where everything is forgotten.
    """
    batch, points, heads, _ = operands.k.shape
    size = min(_TOKENS, points)
    mask = jnp.ones((batch, points), bool) if operands.mask is None else operands.mask
    hidden = [jnp.where(mask[:, :, None, None], x, 0) for x in (operands.k, operands.v)]
    decay = operands.token_decay
    fading, left = jnp.zeros((batch, heads)), jnp.zeros((batch, points, heads))
    if decay is not None:
        fading, left = _left_at_the_end(decay)
    einsum = functools.partial(float32_einsum, operands.v.dtype == jnp.float32)

    def cut(x: jax.Array) -> jax.Array:
        x = jnp.pad(x, ((0, 0), (0, -points % size), *((0, 0),) * (x.ndim - 2)))
        return jnp.moveaxis(x.reshape(batch, -1, size, *x.shape[2:]), 1, 0)

    @jax.checkpoint
    def step(state: State, tokens: tuple) -> tuple[State, None]:
        k, v, left, mask = tokens
        kept = jnp.isfinite(left) & mask[..., None]
        added, kept = (x.swapaxes(1, 2)[:, :, None] for x in (jnp.where(kept, left, 0.0), kept))
        logits = scale * einsum("hmd,bnhd->bhmn", operands.q, k)
        logits = jnp.where(kept, logits + added, -jnp.inf)
        maximum = jax.lax.stop_gradient(jnp.maximum(jnp.max(logits, axis=-1), LOWEST))
        weights = jnp.exp(logits - maximum[..., None])
        return merge(state, State(maximum, jnp.sum(weights, -1), einsum("bhmn,bnhc->bhmc", weights, v))), None

    start = empty_state((batch, heads, operands.q.shape[1]), operands.v.shape[-1])
    start, tokens = vary_alike((start, (*hidden, left, mask)))
    return jax.lax.scan(step, start, jax.tree.map(cut, tokens))[0], fading


def _left_at_the_end(decay: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the sum `[B, H]` of log decays `[B, H, N]`, and of those after each token `[B, N, H]`."""
    resets = decay < FORGETS_ALL
    finite = jnp.where(resets, 0.0, decay)
    after = jnp.flip(jnp.cumsum(jnp.flip(finite, -1), -1), -1)
    emptied = jnp.flip(jnp.cumsum(jnp.flip(resets, -1), -1), -1)
    fading = jnp.where(emptied[..., 0] > 0, -jnp.inf, after[..., 0])
    left = jnp.where(emptied - resets > 0, -jnp.inf, after - finite)
    return fading, left.swapaxes(1, 2)
