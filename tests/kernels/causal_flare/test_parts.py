"""Tiles in parts, and states of splits: what is cut into how many pieces makes no difference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels.causal_flare import factored, splits
from kernels.causal_flare.factored import Arithmetic, Span
from kernels.causal_flare.operands import LOWEST, State
from kernels.causal_flare.tile import Future, Tokens
from tests.numerics import assert_close

TOKENS, LATENTS = 16, 3


def dot(a: jax.Array, b: jax.Array, contract: tuple[int, int]) -> jax.Array:
    return jnp.tensordot(a, b, axes=(contract[0], contract[1]), precision="highest")


NUMBERS = Arithmetic(dot, jnp.exp, lambda x: 1.0 / x)


def frame(logits, first=0, last=TOKENS, decay=None, valid=None, maximum=LOWEST, behind=False):
    logits = logits if valid is None else jnp.where(valid, logits, -jnp.inf)
    tokens = Tokens(None, jnp.zeros((TOKENS, 1)), None, valid, log_decay=decay)
    state = State(jnp.full(LATENTS, maximum), jnp.full(LATENTS, 0.0 if maximum == LOWEST else 1.0), None)
    return factored.make_frame(logits, tokens, state, Span(first, last), NUMBERS, behind=behind)


def growing(step: float) -> jax.Array:
    """Logits of which each is larger than the one before by `step`."""
    return step * jnp.broadcast_to(jnp.arange(TOKENS, dtype=jnp.float32), (LATENTS, TOKENS))


@pytest.mark.parametrize(
    ("logits", "first", "options", "end"),
    [
        (growing(0.0), 0, {}, TOKENS),
        (growing(-1e3), 3, {}, TOKENS),
        (growing(25.0), 0, {}, 3),
        (growing(25.0), 5, {}, 8),
        (growing(1e4), 5, {}, 6),
        # A state with a large maximum is what the growth is over.
        (growing(25.0), 0, {"maximum": 150.0}, 9),
        # Tokens that take no part are no reference.
        (growing(25.0), 0, {"valid": jnp.arange(TOKENS) >= 4}, 7),
        (growing(0.0), 0, {"valid": jnp.zeros(TOKENS, bool)}, TOKENS),
        # What has been forgotten counts as growth, and a token that forgets everything begins a part.
        (growing(0.0), 0, {"decay": jnp.full(TOKENS, -25.0)}, 3),
        (growing(0.0), 2, {"decay": jnp.where(jnp.arange(TOKENS) % 6 == 2, -jnp.inf, 0.0)}, 8),
    ],
)
def test_a_part_ends_where_the_weights_would_grow_too_large(logits, first, options, end):
    assert factored.end_of_part(frame(logits, first, **options), first) == end


def test_where_a_part_ends_depends_on_earlier_tokens_alone():
    logits = 90.0 * jax.random.normal(jax.random.key(0), (LATENTS, TOKENS))
    end = int(factored.end_of_part(frame(logits), 0))
    assert 1 < end < TOKENS  # else nothing is shown
    changed = logits.at[:, end + 1 :].add(1e3)
    assert factored.end_of_part(frame(changed), 0) == end


@pytest.mark.parametrize("last", [1, 7, TOKENS])
def test_weights_of_a_part_are_those_of_the_prefix_softmax(last):
    logits = 8.0 * jax.random.normal(jax.random.key(1), (LATENTS, TOKENS))
    part = factored.make_part(frame(logits), Span(0, last), jnp.arange(TOKENS) < last, NUMBERS, jnp.float32)
    for t in range(last):
        expected = jax.nn.softmax(logits[:, : t + 1], axis=1)
        assert_close(f"token {t}", part.weights[:, : t + 1] * part.inverse[:, t, None], expected, 1e-6)
    np.testing.assert_array_equal(part.weights[:, last:], 0)
    np.testing.assert_array_equal(part.inverse[:, last:], 0)


def test_a_span_in_the_middle_sees_the_tokens_before_it():
    logits = 8.0 * jax.random.normal(jax.random.key(2), (LATENTS, TOKENS))
    span = Span(5, 9)
    behind = frame(logits, *span, behind=True)
    assert factored.is_part(behind, 5)
    part = factored.make_part(behind, span, True, NUMBERS, jnp.float32, behind=True)
    masses = jnp.cumsum(jnp.exp(logits - part_reference(logits, 5)), axis=1)
    assert_close("before", part.before, masses[:, 4], 1e-6)
    assert_close("inverse", part.inverse[:, 5:9], 1 / masses[:, 5:9], 1e-6)
    np.testing.assert_array_equal(part.weights[:, :5], 0)


def part_reference(logits: jax.Array, first: int) -> jax.Array:
    return jnp.max(logits[:, : first + 1], axis=1, keepdims=True)


def test_a_span_that_grows_too_much_is_no_part():
    assert not factored.is_part(frame(growing(25.0), 2, 7, behind=True), 2)
    assert factored.is_part(frame(growing(25.0), 2, 4, behind=True), 2)


@pytest.mark.parametrize("forgetting", [False, True])
def test_summed_and_scanned_states_agree(forgetting, monkeypatch):
    keys = iter(jax.random.split(jax.random.key(3), 20))
    heads, count, channels = (2, 3), 6, 4

    def states(*shape: int) -> State:
        maximum = 5.0 * jax.random.normal(next(keys), (*shape, LATENTS))
        total = jax.random.normal(next(keys), (*shape, LATENTS, channels))
        return State(maximum, 1.0 + jax.random.uniform(next(keys), maximum.shape), total)

    initial, sums, dfinal = states(*heads), states(*heads, count), states(*heads)
    futures = Future(states(*heads, count).total, states(*heads, count).maximum)
    fading = None
    if forgetting:
        fading = -3.0 * jax.random.uniform(next(keys), (*heads, count))
        fading = fading.at[0, :, 2].set(-jnp.inf).at[1, 1, :2].set(-jnp.inf)

    def run() -> tuple:
        starts, final = splits.prefix_states(initial, sums, fading)
        return starts, final, splits.merge_futures(starts, final, futures, dfinal, fading)

    summed = run()
    monkeypatch.setattr(splits, "_MOST_SUMMED", 0)
    for i, (a, b) in enumerate(zip(jax.tree.leaves(summed), jax.tree.leaves(run()), strict=True)):
        assert_close(str(i), a, b, 1e-5)
