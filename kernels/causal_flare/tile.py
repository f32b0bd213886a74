"""The maths of one short tile of tokens and one tile of latents of one head (README.md, "One tile").

Plain functions of arrays without batch axes: the XLA version maps them over heads and splits, the Pallas kernels call
those without weights of pairs of tokens, which factored.py has for them. Logits and everything derived from them are
`[m, t]`, m latents by t tokens; the weights of the prefix softmaxes are `[m, t, τ]`, zero for τ > t. All exponents are
at most 0.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kernels.causal_flare.operands import FORGETS_ALL, LOWEST, State, fade, reciprocal

# Multiplies two tiles over the given axes with float32 sums.
Dot = Callable[[jax.Array, jax.Array, tuple[int, int]], jax.Array]


class Latents(NamedTuple):
    """A tile of latents: q `[m, D]`, q_decode like it or None, bias `[m]`: -inf for padding, which is never read."""

    q: jax.Array
    q_decode: jax.Array | None
    bias: jax.Array


class Tokens(NamedTuple):
    """A tile of tokens: k `[t, D]`, v `[t, C]`, k_decode or None, `valid` `[t]` bool or None where all take part.

    `read_maximum` and `read_mass` `[t]` normalise the read weights over all latents, not only those of a tile; the
    maximum is +inf for a token that takes no part. In the backward, dy `[t, C]` and `mean` `[t]`, the product dy·y.
    `log_decay` `[t]` or None is 0 for a token that takes no part.
    """

    k: jax.Array
    v: jax.Array
    k_decode: jax.Array | None
    valid: jax.Array | None
    read_maximum: jax.Array | None = None
    read_mass: jax.Array | None = None
    dy: jax.Array | None = None
    mean: jax.Array | None = None
    log_decay: jax.Array | None = None


class Gradients(NamedTuple):
    """What one tile contributes: dk `[t, D]`, dv `[t, C]`, dq `[m, D]`, and dk_decode and dq_decode or None.

    `dlogits` `[t]` or None is the gradient of the logits of the prefix softmax, summed over the latents of the tile.
    """

    dk: jax.Array
    dv: jax.Array
    dq: jax.Array
    dk_decode: jax.Array | None
    dq_decode: jax.Array | None
    dlogits: jax.Array | None = None


class Future(NamedTuple):
    """What later tokens say about the state: `values` `[m, C]` and `slopes` `[m]`, relative to its mass."""

    values: jax.Array
    slopes: jax.Array


class _Forgetting(NamedTuple):
    """Log decays up to each token `[t]` and in all; how many tokens forget everything, up to each and in all.

    Such a token adds nothing to the sums, which so stay differences of near numbers.
    """

    sums: jax.Array
    total: jax.Array
    resets: jax.Array
    last: jax.Array


class _Prefix(NamedTuple):
    """Prefix softmaxes: weights `[m, t, τ]`, not normalised; share of the state and 1 / mass `[m, t]`."""

    weights: jax.Array
    carry: jax.Array
    inverse: jax.Array


def write_logits(latents: Latents, tokens: Tokens, scale: float, dot: Dot) -> jax.Array:
    """Return the logits of the prefix softmax, -inf for tokens that take no part."""
    logits = scale * dot(latents.q, tokens.k, (1, 1))
    return logits if tokens.valid is None else jnp.where(tokens.valid[None, :], logits, -jnp.inf)


def _read_logits(latents: Latents, tokens: Tokens, scale: float, dot: Dot) -> jax.Array:
    if latents.q_decode is None:
        return scale * dot(latents.q, tokens.k, (1, 1)) + latents.bias[:, None]
    return scale * dot(latents.q_decode, tokens.k_decode, (1, 1)) + latents.bias[:, None]


def read_statistics(latents: Latents, tokens: Tokens, scale: float, dot: Dot) -> tuple[jax.Array, jax.Array]:
    """Return maximum and mass `[t]` of the read softmax over the latents of the tile."""
    logits = _read_logits(latents, tokens, scale, dot)
    maximum = jnp.max(logits, axis=0)
    return maximum, jnp.sum(jnp.exp(logits - maximum[None, :]), axis=0)


def reading_logits(latents: Latents, tokens: Tokens, logits: jax.Array, scale: float, dot: Dot) -> jax.Array:
    """Return the logits `[m, t]` of the read softmax, `logits` where it shares those of the prefix softmax."""
    if latents.q_decode is None:
        return logits + latents.bias[:, None]
    return _read_logits(latents, tokens, scale, dot)


def _read_weights(latents: Latents, tokens: Tokens, logits: jax.Array, scale: float, dot: Dot) -> jax.Array:
    logits = reading_logits(latents, tokens, logits, scale, dot)
    return jnp.exp(logits - tokens.read_maximum[None, :]) * (1.0 / tokens.read_mass)[None, :]


def _forgetting(tokens: Tokens) -> _Forgetting | None:
    if tokens.log_decay is None:
        return None
    resets = (tokens.log_decay < FORGETS_ALL).astype(jnp.float32)
    decay = jnp.where(resets > 0, 0.0, tokens.log_decay)
    order = jnp.arange(decay.shape[0], dtype=jnp.int32)
    # The summed axis first, so that a GPU's threads add up most of what they hold before they meet.
    earlier = order[:, None] <= order[None, :]
    sums, counts = (jnp.sum(jnp.where(earlier, x[:, None], 0.0), axis=0) for x in (decay, resets))
    return _Forgetting(sums, jnp.sum(decay), counts, jnp.sum(resets))


def _prefix(logits: jax.Array, tokens: Tokens, state: State) -> _Prefix:
    order = jnp.arange(logits.shape[1], dtype=jnp.int32)
    earlier = order[:, None] >= order[None, :]
    entering, forgetting = state.maximum[:, None], _forgetting(tokens)
    if forgetting is not None:
        # Relative to the start of the tile a token weighs more, the more is forgotten before it.
        logits = logits - forgetting.sums[None, :]
        earlier = earlier & (forgetting.resets[:, None] == forgetting.resets[None, :])
        kept = (forgetting.resets == 0)[None, :]
        entering = jnp.where(kept, entering, LOWEST)
    spread = jnp.where(earlier[None, :, :], logits[:, None, :], -jnp.inf)
    running = jnp.maximum(entering, jnp.max(spread, axis=2))
    weights = jnp.exp(spread - running[:, :, None])
    carry = jnp.exp(entering - running)
    if forgetting is not None:
        carry = jnp.where(kept, carry, 0.0)
    return _Prefix(weights, carry, reciprocal(carry * state.mass[:, None] + jnp.sum(weights, axis=2)))


def _write(logits: jax.Array, tokens: Tokens, state: State) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return new maximum and mass, the share of the old state `[m]` and the weights of the tokens `[m, t]`.

    With forgetting the maximum is relative to the last token.
    """
    forgetting = _forgetting(tokens)
    if forgetting is None:
        return _sum_up(logits, state.maximum, state.mass)
    logits = logits - forgetting.sums[None, :]
    logits = jnp.where((forgetting.resets == forgetting.last)[None, :], logits, -jnp.inf)
    entering = jnp.where(forgetting.last == 0, state.maximum, LOWEST)
    maximum, mass, decay, weights = _sum_up(logits, entering, jnp.where(forgetting.last == 0, state.mass, 0.0))
    return maximum + forgetting.total, mass, jnp.where(forgetting.last == 0, decay, 0.0), weights


def _sum_up(logits: jax.Array, entering: jax.Array, mass: jax.Array) -> tuple[jax.Array, ...]:
    maximum = jnp.maximum(entering, jnp.max(logits, axis=1))
    decay = jnp.exp(entering - maximum)
    weights = jnp.exp(logits - maximum[:, None])
    return maximum, decay * mass + jnp.sum(weights, axis=1), decay, weights


def absorb(logits: jax.Array, tokens: Tokens, state: State, dot: Dot) -> State:
    """Return the state after the tokens of the tile."""
    maximum, mass, decay, weights = _write(logits, tokens, state)
    total = decay[:, None] * state.total + dot(weights.astype(tokens.v.dtype), tokens.v, (1, 0))
    return State(maximum, mass, total)


def read(latents: Latents, tokens: Tokens, state: State, scale: float, dot: Dot) -> tuple[jax.Array, State]:
    """Return what these latents contribute to the outputs `[t, C]`, and the state after the tile."""
    logits = write_logits(latents, tokens, scale, dot)
    prefix = _prefix(logits, tokens, state)
    dtype = tokens.v.dtype
    share = _read_weights(latents, tokens, logits, scale, dot) * prefix.inverse
    mixing = jnp.sum(share[:, :, None] * prefix.weights, axis=0)
    y = dot((share * prefix.carry).astype(dtype), state.total.astype(dtype), (0, 0))
    y = y + dot(mixing.astype(dtype), tokens.v, (1, 0))
    return y, absorb(logits, tokens, state, dot)


def slopes(
    latents: Latents, tokens: Tokens, state: State, start: State, past: Future, scale: float, dot: Dot
) -> tuple[jax.Array, State, State, Future]:
    """Return dy·z `[m, t]` for the latents z after every token, the states after the tile, and `past` with its tokens.

    `past` collects what the tokens since `start` say about the state `start`, of which only maximum and mass are used;
    `start` fades with what is forgotten.
    """
    logits = write_logits(latents, tokens, scale, dot)
    prefix = _prefix(logits, tokens, state)
    pairs = dot(tokens.dy, tokens.v, (1, 1))
    seen = dot(state.total.astype(tokens.dy.dtype), tokens.dy, (1, 1))
    slope = (prefix.carry * seen + jnp.sum(prefix.weights * pairs[None, :, :], axis=2)) * prefix.inverse
    # exp(start - running maximum) in two factors, neither of which can overflow.
    ratio = jnp.exp(start.maximum - state.maximum)[:, None] * prefix.carry * start.mass[:, None] * prefix.inverse
    read_share = _read_weights(latents, tokens, logits, scale, dot) * ratio
    values = past.values + dot(read_share.astype(tokens.dy.dtype), tokens.dy, (1, 0))
    past = Future(values, past.slopes + jnp.sum(read_share * slope, axis=1))
    forgetting = _forgetting(tokens)
    if forgetting is not None:
        start = fade(start, jnp.where(forgetting.last == 0, forgetting.total, -jnp.inf))
    return slope, absorb(logits, tokens, state, dot), start, past


def gradients(
    latents: Latents, tokens: Tokens, state: State, slope: jax.Array, future: Future, scale: float, dot: Dot
) -> tuple[Gradients, Future]:
    """Return the gradients of a tile, and what it and all later tokens say about the state that enters it.

    `state` is the entering one, its total is not used; `future` is relative to the leaving one.
    """
    logits = write_logits(latents, tokens, scale, dot)
    prefix = _prefix(logits, tokens, state)
    _, mass, decay, weights = _write(logits, tokens, state)
    dtype = tokens.v.dtype
    left = weights * reciprocal(mass)[:, None]
    reading = _read_weights(latents, tokens, logits, scale, dot)
    shared = (reading * prefix.inverse)[:, :, None] * prefix.weights
    mixing = jnp.sum(shared, axis=0).astype(dtype)
    later = future.values.astype(dtype)
    dv = dot(mixing, tokens.dy, (0, 0)) + dot(left.astype(dtype), later, (0, 0))
    pairs = dot(tokens.dy, tokens.v, (1, 1))
    # The difference is taken before the sum: both parts are much larger than it where a softmax is sharp.
    gradient = jnp.sum(shared * (pairs[None, :, :] - slope[:, :, None]), axis=1)
    gradient = gradient + left * (dot(later, tokens.v, (1, 1)) - future.slopes[:, None])
    read_gradient = reading * (slope - tokens.mean[None, :])
    result = logit_gradients(latents, tokens, scale * gradient, scale * read_gradient, dv, dot)
    if tokens.log_decay is not None:
        result = result._replace(dlogits=jnp.sum(gradient, axis=0))
    kept = decay * state.mass * reciprocal(mass)
    share = prefix.carry * prefix.inverse * state.mass[:, None] * reading
    values = kept[:, None] * future.values + dot(share.astype(dtype), tokens.dy, (1, 0))
    return result, Future(values, kept * future.slopes + jnp.sum(share * slope, axis=1))


def logit_gradients(
    latents: Latents, tokens: Tokens, gradient: jax.Array, read_gradient: jax.Array, dv: jax.Array, dot: Dot
) -> Gradients:
    """Contract the gradients of the logits with the queries and keys that they are products of.

    Those of the keys are products with the logits' gradients on the right, whose results are transposed: XLA would
    compute a transposed left factor once more, for it moves transpositions before what is computed element by element.
    """
    dtype = tokens.k.dtype
    if latents.q_decode is None:
        both = (gradient + read_gradient).astype(dtype)
        return Gradients(dot(latents.q, both, (0, 0)).T, dv, dot(both, tokens.k, (1, 0)), None, None)
    gradient, read_gradient = gradient.astype(dtype), read_gradient.astype(dtype)
    return Gradients(
        dot(latents.q, gradient, (0, 0)).T,
        dv,
        dot(gradient, tokens.k, (1, 0)),
        dot(latents.q_decode, read_gradient, (0, 0)).T,
        dot(read_gradient, tokens.k_decode, (1, 0)),
    )
