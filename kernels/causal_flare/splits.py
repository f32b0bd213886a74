"""The states between splits of the sequence: merged from the start on, and what is said of them from the end on."""

import jax
import jax.numpy as jnp

from kernels.causal_flare.operands import LOWEST, State, fade, merge, reciprocal
from kernels.causal_flare.tile import Future

# States of so many splits are merged as one sum over all earlier ones, in a few kernels; more of them are scanned.
_MOST_SUMMED = 72


def prefix_states(initial: State, sums: State, fading: jax.Array | None) -> tuple[State, State]:
    """Return the state at the start of every split, and the one after the last."""
    joined = jax.tree.map(lambda x, y: jnp.concatenate([x[:, :, None], y], axis=2), initial, sums)
    if joined.mass.shape[2] <= _MOST_SUMMED:
        states = _summed(joined, fading)
    elif fading is None:
        states = jax.lax.associative_scan(merge, joined, axis=2)
    else:
        fading = jnp.pad(fading, ((0, 0), (0, 0), (1, 0)))
        states, _ = jax.lax.associative_scan(_merge_faded, (joined, fading[..., None]), axis=2)
    return jax.tree.map(lambda x: x[:, :, :-1], states), jax.tree.map(lambda x: x[:, :, -1], states)


def _summed(parts: State, fading: jax.Array | None) -> State:
    """Return the merge of every state `[B, H, splits + 1, m]` with all before it as one sum over these."""
    heads, (parts, fading) = parts.mass.shape[:2], jax.tree.map(_flat_heads, (parts, fading))
    earlier = jnp.tri(parts.mass.shape[1], dtype=bool)[..., None]
    maxima = parts.maximum[:, None]
    if fading is not None:
        maxima = maxima + _faded(fading)[..., None]
    # Where all has been forgotten the empty state is the reference.
    maximum = jnp.maximum(jnp.max(jnp.where(earlier, maxima, -jnp.inf), axis=2), LOWEST)
    shares = jnp.where(earlier, jnp.exp(maxima - maximum[:, :, None]), 0.0)
    mass = jnp.sum(shares * parts.mass[:, None], axis=2)
    total = jnp.sum(shares[..., None] * parts.total[:, None], axis=2)
    return jax.tree.map(lambda x: x.reshape(*heads, *x.shape[1:]), State(maximum, mass, total))


def _flat_heads(x: jax.Array) -> jax.Array:
    """Merge batch and heads: a sum of seven axes, under `vmap`, crashes as in chunked.py."""
    return x.reshape(-1, *x.shape[2:])


def _faded(fading: jax.Array) -> jax.Array:
    """Return the log decays `[heads, after, before]` from one of splits + 1 states until another."""
    order = jnp.arange(fading.shape[1] + 1)
    after, before, split = order[:, None, None], order[None, :, None], order[None, None, 1:]
    return jnp.sum(jnp.where((before < split) & (split <= after), fading[:, None, None], 0.0), axis=3)


def _merge_faded(first: tuple[State, jax.Array], second: tuple[State, jax.Array]) -> tuple[State, jax.Array]:
    (earlier, before), (later, fading) = first, second
    return merge(fade(earlier, fading), later), before + fading


def merge_futures(
    starts: State, final: State, futures: Future, dfinal: State, fading: jax.Array | None
) -> tuple[Future, Future]:
    """Return what all later tokens say about the end of every split, and about the initial state."""
    last = Future(final.mass[..., None] * dfinal.total, -final.mass * dfinal.mass)
    futures = jax.tree.map(lambda x, y: jnp.concatenate([x, y[:, :, None]], axis=2), futures, last)
    maximum, mass = (jnp.concatenate([x, y[:, :, None]], axis=2) for x, y in zip(starts[:2], final[:2], strict=True))
    if mass.shape[2] <= _MOST_SUMMED:
        about = _summed_futures(maximum, mass, futures, fading)
    else:
        about = _scanned_futures(maximum, mass, futures, fading)
    return jax.tree.map(lambda x: x[:, :, 1:], about), jax.tree.map(lambda x: x[:, :, 0], about)


def _summed_futures(maximum: jax.Array, mass: jax.Array, futures: Future, fading: jax.Array | None) -> Future:
    """Return the sum of what is said of every state and of all later ones, by its share in each of these."""
    heads = mass.shape[:2]
    maximum, mass, futures, fading = jax.tree.map(_flat_heads, (maximum, mass, futures, fading))
    logs = maximum[:, :, None] - maximum[:, None]
    if fading is not None:
        logs = logs + jnp.swapaxes(_faded(fading), 1, 2)[..., None]
    order = jnp.arange(mass.shape[1])[:, None]
    shares = jnp.where((order < order.T)[..., None], jnp.exp(logs), 0.0) * mass[:, :, None] * reciprocal(mass)[:, None]
    shares = jnp.where((order == order.T)[..., None], 1.0, shares)
    values = jnp.sum(shares[..., None] * futures.values[:, None], axis=2)
    about = Future(values, jnp.sum(shares * futures.slopes[:, None], axis=2))
    return jax.tree.map(lambda x: x.reshape(*heads, *x.shape[1:]), about)


def _scanned_futures(maximum: jax.Array, mass: jax.Array, futures: Future, fading: jax.Array | None) -> Future:
    left = maximum[:, :, :-1] if fading is None else maximum[:, :, :-1] + fading[..., None]
    kept = jnp.exp(left - maximum[:, :, 1:]) * mass[:, :, :-1] * reciprocal(mass[:, :, 1:])
    kept = jnp.concatenate([kept, jnp.zeros_like(kept[:, :, :1])], axis=2)

    def combine(later: tuple, earlier: tuple) -> tuple:
        kept, (values, slopes) = earlier
        values = values + kept[..., None] * later[1].values
        return kept * later[0], Future(values, slopes + kept * later[1].slopes)

    return jax.lax.associative_scan(combine, (kept, futures), reverse=True, axis=2)[1]


def state_gradient(state: State, future: Future) -> State:
    """Return the gradient of a state from what later tokens say about it, relative to its mass."""
    inverse = reciprocal(state.mass)
    total = future.values * inverse[..., None]
    maximum = jnp.sum(state.total * total, axis=-1) - future.slopes
    return State(maximum, -future.slopes * inverse, total)
