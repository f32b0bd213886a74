"""The maths of one tile of points whose state decays, in matrix products (README.md, "Decay in kernels").

The decay between two points, exp(L_t - L_τ), is the product of a factor of each relative to one reference, as long as
the two are not further than `REACH` apart. A tile is done in parts that are no longer than that; a part may be a single
point, whose own decay enters relative to the state before it, so that any decay is served.

Plain functions of arrays of one head. `[t, w]` are decays in powers of two, w = D, or w = 1 for one decay per head.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kernels._mosaic import split_in_kernel

# Powers of two that the factors of a part span: far from the ends of float32 also when they are multiplied.
REACH = 86.0
# 2 to the power of it is exactly 0, and sums of tiles of it are small.
LOWEST_DECAY = -256.0

Dot = Callable[[jax.Array, jax.Array, tuple[int, int]], jax.Array]


class Arithmetic(NamedTuple):
    """The product of two tiles over axes, and 2 to the power of a tile."""

    dot: Dot
    exp2: Callable[[jax.Array], jax.Array]


class Span(NamedTuple):
    """The points from `first` on and before `last` of a tile."""

    first: jax.Array | int
    last: jax.Array | int

    def holds(self, size: int) -> jax.Array:
        """Return which of `size` points are in it."""
        order = _order(size)
        return (order >= self.first) & (order < self.last)


class Part(NamedTuple):
    """A part of a tile on the walk back, with factors relative to its last point.

    `q` and `k` `[t, D]` times their factors, rounded, zero outside of the part; `grown` and `kept` `[t, w]`, these
    factors; `state`, what is left of the state before the part after it, and `entering` `[w]`, the factor of that.
    """

    span: Span
    q: jax.Array
    k: jax.Array
    grown: jax.Array
    kept: jax.Array
    state: jax.Array
    entering: jax.Array


def _order(size: int) -> jax.Array:
    return jnp.arange(size, dtype=jnp.int32)


def _sums_over(which: Callable[..., jax.Array], x: jax.Array, numbers: Arithmetic) -> jax.Array:
    """Return for every t the sum `[t, w]` of float32 x `[s, w]` over the points for which `which(t, s)`."""
    order = _order(x.shape[0])
    if x.shape[1] == 1:
        # Along the axis that threads hold, so that each sums up by itself.
        return jnp.sum(jnp.where(which(order[None, :], order[:, None]), x, 0.0), axis=0)[:, None]
    ones = jnp.where(which(order[:, None], order[None, :]), 1.0, 0.0).astype(jnp.bfloat16)
    large, middle, small = (numbers.dot(ones, part, (1, 0)) for part in split_in_kernel(x, jnp.bfloat16, 3))
    return large + (middle + small)


def _sum_of(which: jax.Array, x: jax.Array) -> jax.Array:
    """Return the sum `[w]` of x `[s, w]` over the points `which[s]`."""
    return jnp.sum(jnp.where(which[:, None], x, 0.0), axis=0)


def _times_rows(factors: jax.Array, state: jax.Array) -> jax.Array:
    """Return `diag(factors) state`, of factors `[w]`."""
    return factors[:, None] * state


def absorb(
    k: jax.Array, v: jax.Array, decay: jax.Array, state: jax.Array, numbers: Arithmetic, *, reverse: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Return the state after a tile, `diag(e^L) S + Σ k_τ e^(L - L_τ) v_τᵀ`, and the sum L `[w]` of its decays.

    With `reverse` what later points and these say about the state before the tile, `diag(e^L) R + Σ k_t e^L_t v_tᵀ`.
    """
    left = numbers.exp2(_sums_over(lambda t, s: s <= t if reverse else s > t, decay, numbers))
    total = jnp.sum(decay, axis=0)
    return _times_rows(numbers.exp2(total), state) + numbers.dot((k * left).astype(v.dtype), v, (0, 0)), total


def _weights(q: jax.Array, k: jax.Array, numbers: Arithmetic) -> jax.Array:
    """Return `q_t·k_τ` for τ ≤ t, else 0, rounded as its products take it."""
    order = _order(q.shape[0])
    return jnp.where(order[:, None] >= order[None, :], numbers.dot(q, k, (1, 1)), 0.0).astype(q.dtype)


def read(
    q: jax.Array, k: jax.Array, v: jax.Array, decay: jax.Array, state: jax.Array, first: jax.Array, numbers: Arithmetic
) -> tuple[Span, jax.Array, jax.Array]:
    """Return as long a part as is possible from the point `first` on, its outputs, and the state after it.

    Factors are relative to the first point, so that how outputs are rounded depends on earlier points alone.
    """
    size = q.shape[0]
    order = _order(size)
    sums = _sums_over(lambda t, s: (s > first) & (s <= t), decay, numbers)
    fits = (order >= first) & (jnp.min(sums, axis=1) >= -REACH)
    # At least one point, whatever its decay: NaN does not fit, and a walk has to end.
    span = Span(first, jnp.maximum(first + jnp.sum(fits, dtype=jnp.int32), first + 1))
    inside = span.holds(size)
    k = jnp.where(inside[:, None], k * numbers.exp2(-sums), 0.0).astype(k.dtype)
    q = (q * numbers.exp2(sums)).astype(q.dtype)
    state = _times_rows(numbers.exp2(_sum_of(order == first, decay)), state)
    y = numbers.dot(_weights(q, k, numbers), v, (1, 0)) + numbers.dot(q, state.astype(q.dtype), (1, 0))
    left = numbers.exp2(_sum_of(inside & (order > first), decay))
    return span, y, _times_rows(left, state + numbers.dot(k, v, (0, 0)))


def make_part(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    decay: jax.Array,
    state: jax.Array,
    last: jax.Array,
    numbers: Arithmetic,
) -> Part:
    """Return as long a part as is possible before the point `last`; the state is that before the tile."""
    order = _order(q.shape[0])
    sums = _sums_over(lambda t, s: (s > t) & (s < last), decay, numbers)
    outside = (order < last) & ~(jnp.min(sums, axis=1) >= -REACH)
    # At least one point, as in `read`.
    span = Span(jnp.minimum(jnp.sum(outside, dtype=jnp.int32), last - 1), last)
    inside = span.holds(q.shape[0])
    state = jax.lax.cond(span.first == 0, lambda: state, lambda: _state_before(k, v, decay, state, span.first, numbers))
    kept, grown = numbers.exp2(sums), numbers.exp2(jnp.where(inside[:, None], -sums, 0.0))
    entering = numbers.exp2(_sum_of(inside, decay))
    k, q = (jnp.where(inside[:, None], x * factor, 0.0).astype(x.dtype) for x, factor in ((k, kept), (q, grown)))
    return Part(span, q, k, grown, kept, _times_rows(entering, state), entering)


def value_gradients(part: Part, dy: jax.Array, future: jax.Array, numbers: Arithmetic) -> jax.Array:
    """Return dv `[t, C]`, without the scale; `future`, R, is the gradient of the state after the part."""
    # The weights with τ first, for which k is no transposed factor, which XLA would compute once more.
    order = _order(dy.shape[0])
    weights = jnp.where(order[:, None] <= order[None, :], numbers.dot(part.k, part.q, (1, 1)), 0.0)
    own = numbers.dot(weights.astype(part.q.dtype), dy, (1, 0))
    return own + numbers.dot(part.k, future.astype(dy.dtype), (1, 0))


def key_gradients(
    part: Part, v: jax.Array, dy: jax.Array, decay: jax.Array, future: jax.Array, numbers: Arithmetic
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return dq, dk, the gradient of the decays `[t, w]`, all without the scale, and R before the part."""
    pairs = _weights(dy, v, numbers)
    dq = numbers.dot(pairs, part.k, (1, 0)) + numbers.dot(dy, part.state.astype(dy.dtype), (1, 1))
    dk = numbers.dot(pairs, part.q, (0, 0)) + numbers.dot(v, future.astype(v.dtype), (1, 1))
    future = future + numbers.dot(part.q, dy, (0, 0))
    # What flows through a point is what enters the part, less what the points before it read, and what they wrote. The
    # factors are rounded as in the products, so that behind a pair of points its share of both is gone.
    flow = _over_channels(part.k * dk - part.q * dq, decay.shape[1])
    through = _over_channels(jnp.sum(future * part.state, axis=1)[None, :], decay.shape[1])
    ddecay = through + _sums_over(lambda t, s: (s < t) & (s >= part.span.first), flow, numbers)
    ddecay = jnp.where(decay > LOWEST_DECAY, ddecay, 0.0)
    return dq * part.grown, dk * part.kept, ddecay, _times_rows(part.entering, future)


def _state_before(
    k: jax.Array, v: jax.Array, decay: jax.Array, state: jax.Array, first: jax.Array, numbers: Arithmetic
) -> jax.Array:
    """Return the state before the point `first`, from the one before the tile."""
    before = _order(k.shape[0]) < first
    k, decay = jnp.where(before[:, None], k, 0), jnp.where(before[:, None], decay, 0.0)
    return absorb(k, v, decay, state, numbers)[0]


def _over_channels(x: jax.Array, width: int) -> jax.Array:
    """Return `[t, w]` of `[t, D]`: the sum where all channels share one decay."""
    return x if x.shape[1] == width else jnp.sum(x, axis=1, keepdims=True)
