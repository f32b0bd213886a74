"""The maths of one tile of tokens in matrix products (README.md, "One tile in products").

A weight of a prefix softmax, exp(logit - running maximum), is the product of exp(logit - reference) and a factor of the
token that reads, with one reference for the whole tile, as long as the running maximum does not outgrow that by
`LARGEST_GROWTH`. Where it does, and where a token forgets everything, a tile is done in parts. Which tokens begin a
part depends on earlier tokens alone.

Plain functions of arrays of one head, as in tile.py; `[m, t]` is m latents by t tokens.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kernels._mosaic import split_in_kernel
from kernels.causal_flare.operands import FORGETS_ALL, LOWEST, State, fade
from kernels.causal_flare.tile import Dot, Future, Gradients, Latents, Tokens, logit_gradients, reading_logits

# The weights stay below exp of it, which is far from the ends of float32 also when they are summed and multiplied.
LARGEST_GROWTH = 60.0


class Arithmetic(NamedTuple):
    """The product of two tiles, the exponential, and 1 / x, 0 for infinity."""

    dot: Dot
    exp: Callable[[jax.Array], jax.Array]
    inverse: Callable[[jax.Array], jax.Array]

    def reciprocal(self, mass: jax.Array) -> jax.Array:
        """Return 1 / mass, and 0 where it is 0: nothing has been seen."""
        return self.inverse(jnp.where(mass > 0, mass, jnp.inf))


class Span(NamedTuple):
    """The tokens from `first` on and before `last` of a tile."""

    first: jax.Array | int
    last: jax.Array | int


class Frame(NamedTuple):
    """The logits of a tile for the tokens from one on, the first, without what that has forgotten.

    `excess` `[m, t]`: logits over the running maximum after the first token that takes part; `inside` `[t]`: the
    tokens from the first on that take part; `seen` `[t]`: what they see beside the state; `reference` `[m]`, that
    maximum; `entering` `[m]`, the weight of the state relative to it, and `mass`, that of the state, 0 where it is
    forgotten; `fading` `[t]`, the sums of log decays, and `resets`, None without forgetting.
    """

    excess: jax.Array
    inside: jax.Array
    seen: jax.Array
    reference: jax.Array
    entering: jax.Array
    mass: jax.Array
    fading: jax.Array | None
    resets: jax.Array | None


class Part(NamedTuple):
    """What the tokens of a span see, all masses and weights relative to one reference for each latent.

    `inside` `[t]`; `weights` `[m, t]` of the tokens, rounded as products take them, zero outside; `entering` `[m]`,
    the weight of the state; `before` `[m]`, the mass before the first token; `inverse` `[m, t]`, 1 / mass after every
    token, zero outside; `mass` `[m]` after the last one; `growth` `[m]` of the maximum over the reference; `leaving`
    `[m]`, the maximum of the state that leaves; `decay`, the log decays of the tokens together, and `forgets`, whether
    the first forgets everything, None without forgetting.
    """

    inside: jax.Array
    weights: jax.Array
    entering: jax.Array
    before: jax.Array
    inverse: jax.Array
    mass: jax.Array
    growth: jax.Array
    leaving: jax.Array
    decay: jax.Array | None
    forgets: jax.Array | None


def _order(logits: jax.Array) -> jax.Array:
    return jnp.arange(logits.shape[1], dtype=jnp.int32)


def _largest(logits: jax.Array, which: jax.Array) -> jax.Array:
    """Return the largest logits `[m]` of some tokens, -inf where there are none."""
    return jnp.max(jnp.where(which[None, :], logits, -jnp.inf), axis=1)


def _triangle(size: int, dtype: jax.typing.DTypeLike, *, later: bool) -> jax.Array:
    """Return ones where the first index is at least, or without `later` at most, the second."""
    order = jnp.arange(size, dtype=jnp.int32)
    first, second = order[:, None], order[None, :]
    return jnp.where(first >= second if later else first <= second, 1.0, 0.0).astype(dtype)


def _rounded(x: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """Return float32 numbers as a product in `dtype` takes them."""
    return x.astype(dtype).astype(jnp.float32)


def _factors(x: jax.Array, tokens: Tokens) -> tuple[jax.Array, ...]:
    """Return `x` as factors of products whose sum is wanted: rounded, or with forgetting in two parts.

    The gradient of a log decay sums up those of the logits of all earlier tokens, which cancel to what is not forgotten
    yet: rounding would leave the sum of its errors.
    """
    return split_in_kernel(x, tokens.v.dtype, 1 if tokens.log_decay is None or tokens.v.dtype == jnp.float32 else 2)


def make_frame(
    logits: jax.Array, tokens: Tokens, state: State, span: Span, numbers: Arithmetic, *, behind: bool = False
) -> Frame:
    """Return the frame of the first token of a span, with `seen` and `inside` up to its last one.

    The state is that before the first token, or with `behind` the one before the tile.
    """
    order = _order(logits)
    seen = order < span.last
    inside = (order >= span.first) & seen
    if not behind:
        seen = inside
    maximum, mass, fading, resets = state.maximum, state.mass, None, None
    if tokens.log_decay is not None:
        resets = tokens.log_decay < FORGETS_ALL
        decay = jnp.where(resets | ~seen, 0.0, tokens.log_decay)
        fading = jnp.sum(jnp.where(order[:, None] <= order[None, :], decay[:, None], 0.0), axis=0)
        logits = logits - fading[None, :]
        last_reset = jnp.max(jnp.where(resets & seen & (order <= span.first), order, -1))
        maximum = jnp.where(last_reset >= 0, LOWEST, maximum)
        mass = jnp.where(last_reset >= 0, 0.0, mass)
        seen = seen & (order >= last_reset)
    start = order.shape[0] - 1
    if tokens.valid is not None:
        inside = inside & tokens.valid
        start = jnp.min(jnp.where(inside, order, start))
    elif not behind:
        start = span.first
    else:
        start = jnp.minimum(span.first, start)
    reference = jnp.maximum(maximum, _largest(logits, (order <= start) & seen))
    entering = numbers.exp(maximum - reference)
    return Frame(logits - reference[:, None], inside, seen, reference, entering, mass, fading, resets)


def end_of_part(frame: Frame, first: jax.Array | int) -> jax.Array:
    """Return where the part ends that begins with the first token of the frame."""
    ends = jnp.max(frame.excess, axis=0) > LARGEST_GROWTH
    if frame.resets is not None:
        ends = ends | frame.resets
    order = _order(frame.excess)
    return jnp.min(jnp.where(ends & frame.inside & (order > first), order, order.shape[0]))


def is_part(frame: Frame, first: jax.Array | int) -> jax.Array:
    """Return whether all tokens of the frame can be one part."""
    return end_of_part(frame, first) == frame.excess.shape[1]


def make_part(
    frame: Frame,
    span: Span,
    which: jax.Array | bool,
    numbers: Arithmetic,
    dtype: jax.typing.DTypeLike,
    *,
    behind: bool = False,
) -> Part:
    """Return what the tokens of the span, and of the frame, see of each other, of those that `which` `[t]` leaves."""
    order, inside, seen = _order(frame.excess), frame.inside & which, frame.seen & which
    weights = _rounded(jnp.where(seen[None, :], numbers.exp(frame.excess), 0.0), dtype)
    before = frame.entering * frame.mass
    sums = before[:, None] + numbers.dot(weights.astype(dtype), _triangle(order.shape[0], dtype, later=False), (1, 0))
    mass = before + jnp.sum(weights, axis=1)
    if behind:
        before = before + jnp.sum(jnp.where((order < span.first)[None, :], weights, 0.0), axis=1)
        weights = jnp.where((order >= span.first)[None, :], weights, 0.0)
    # Where no token reads, the mass may be too small for its reciprocal.
    inverse = numbers.reciprocal(jnp.where(inside[None, :], sums, 0.0))
    growth = jnp.maximum(_largest(frame.excess, seen), 0.0)
    leaving, decay, forgets = frame.reference + growth, None, None
    if frame.fading is not None:
        decay = jnp.sum(jnp.where(order == span.last - 1, frame.fading, 0.0))
        leaving = leaving + decay
        forgets = jnp.max(jnp.where(frame.resets & (order == span.first), 1, 0)) > 0
    return Part(inside, weights, frame.entering, before, inverse, mass, growth, leaving, decay, forgets)


def leave(part: Part, state: State, tokens: Tokens, numbers: Arithmetic) -> State:
    """Return the state after a part, from that before it."""
    shrink = numbers.exp(-part.growth)
    arriving = (part.weights * shrink[:, None]).astype(tokens.v.dtype)
    kept = part.entering * shrink
    return State(
        part.leaving, shrink * part.mass, kept[:, None] * state.total + numbers.dot(arriving, tokens.v, (1, 0))
    )


def _read_weights(
    latents: Latents, tokens: Tokens, logits: jax.Array, part: Part, scale: float, numbers: Arithmetic
) -> jax.Array:
    logits = reading_logits(latents, tokens, logits, scale, numbers.dot)
    # A token outside reads nothing.
    maximum = jnp.where(part.inside, tokens.read_maximum, jnp.inf)
    return numbers.exp(logits - maximum[None, :]) * numbers.inverse(tokens.read_mass)[None, :]


def _mixing(share: jax.Array, part: Part, dtype: jax.typing.DTypeLike, numbers: Arithmetic) -> jax.Array:
    """Return the weight `[t, τ]` of every value in every output of the part."""
    order = _order(share)
    mixing = numbers.dot(share.astype(dtype), part.weights.astype(dtype), (0, 0))
    return jnp.where(order[:, None] >= order[None, :], mixing, 0.0).astype(dtype)


def read(
    latents: Latents, tokens: Tokens, logits: jax.Array, part: Part, state: State, scale: float, numbers: Arithmetic
) -> jax.Array:
    """Return what these latents contribute to the outputs `[t, C]` of a part behind the state, zeros outside of it."""
    dtype = tokens.v.dtype
    share = _read_weights(latents, tokens, logits, part, scale, numbers) * part.inverse
    y = numbers.dot((share * part.entering[:, None]).astype(dtype), state.total.astype(dtype), (0, 0))
    return y + numbers.dot(_mixing(share, part, dtype, numbers), tokens.v, (1, 0))


def slopes(
    latents: Latents,
    tokens: Tokens,
    logits: jax.Array,
    part: Part,
    states: tuple[State, State],
    past: Future,
    scale: float,
    numbers: Arithmetic,
) -> tuple[jax.Array, State, Future]:
    """Return dy·z `[m, t]` for the latents z after every token, the start of the walk, and `past` with its tokens.

    `states` are that before the part, and the one at the start of the walk, of which only maximum and mass are used and
    which fades; `past` collects what the tokens since say about it.
    """
    (state, start), dtype, order = states, tokens.dy.dtype, _order(logits)
    pairs = numbers.dot(tokens.v, tokens.dy, (1, 1))
    pairs = _factors(jnp.where(order[:, None] <= order[None, :], pairs, 0.0), tokens)
    seen = sum(numbers.dot(x, tokens.dy, (1, 1)) for x in _factors(state.total, tokens))
    slope = sum((numbers.dot(part.weights.astype(dtype), x, (1, 0)) for x in pairs), part.entering[:, None] * seen)
    slope = slope * part.inverse
    if part.forgets is not None:
        start = start._replace(maximum=jnp.where(part.forgets, -jnp.inf, start.maximum))
    # Its weight in two factors, neither of which can overflow.
    kept = numbers.exp(start.maximum - state.maximum) * part.entering * start.mass
    share = _read_weights(latents, tokens, logits, part, scale, numbers) * part.inverse * kept[:, None]
    share = _rounded(share, dtype)
    values = past.values + numbers.dot(share.astype(dtype), tokens.dy, (1, 0))
    past = Future(values, past.slopes + jnp.sum(share * slope, axis=1))
    return slope, start if part.decay is None else fade(start, part.decay), past


def gradients(
    latents: Latents,
    tokens: Tokens,
    logits: jax.Array,
    part: Part,
    slope: jax.Array,
    future: Future,
    scale: float,
    numbers: Arithmetic,
) -> tuple[Gradients, Future]:
    """Return the gradients of a part, and what it and all later tokens say about the state before it.

    `slope` is dy·z, and `future` is relative to the state that leaves.
    """
    dtype, order, size = tokens.v.dtype, _order(logits), logits.shape[1]
    reading = _read_weights(latents, tokens, logits, part, scale, numbers)
    share = _rounded(reading * part.inverse, dtype)
    left = part.weights * numbers.reciprocal(part.mass)[:, None]
    later = future.values.astype(dtype)
    mixing = _mixing(share, part, dtype, numbers)
    # Transposed, as in `logit_gradients`.
    dv = (numbers.dot(tokens.dy, mixing, (0, 0)) + numbers.dot(later, left.astype(dtype), (0, 0))).T
    # What both parts of a difference have in common, the slope of the output, is left out before they are summed.
    centred = slope - tokens.mean[None, :]
    pairs = numbers.dot(tokens.dy, tokens.v, (1, 1)) - tokens.mean[:, None]
    pairs = _factors(jnp.where(order[:, None] >= order[None, :], pairs, 0.0), tokens)
    triangle = _triangle(size, dtype, later=True)
    own = sum(numbers.dot(x, triangle, (1, 0)) for x in _factors(share * centred, tokens))
    gradient = part.weights * (sum(numbers.dot(share.astype(dtype), x, (1, 0)) for x in pairs) - own)
    said = sum(numbers.dot(x, tokens.v, (1, 1)) for x in _factors(future.values, tokens))
    gradient = gradient + left * (said - future.slopes[:, None])
    result = logit_gradients(latents, tokens, scale * gradient, scale * (reading * centred), dv, numbers.dot)
    if tokens.log_decay is not None:
        result = result._replace(dlogits=jnp.sum(gradient, axis=0))
    kept = part.before * numbers.reciprocal(part.mass)
    share = _rounded(share * part.before[:, None], dtype)
    values = kept[:, None] * future.values + numbers.dot(share.astype(dtype), tokens.dy, (1, 0))
    return result, Future(values, kept * future.slopes + jnp.sum(share * slope, axis=1))
