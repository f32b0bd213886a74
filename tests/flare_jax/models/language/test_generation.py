"""Sampling and generation: a prompt has one continuation, whatever stands beside it, and nothing is compiled twice."""

import functools
import inspect
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.models.language import Generator, Sampling, sample_tokens
from tests.flare_jax.models.language.models import VOCABULARY, programs, tokens

PROMPTS = [[3], [1, 4, 1, 5, 9, 2, 6, 5, 3, 5], [2, 7]]


def generator(name, sampling=None, **options):
    model = programs(name)
    return Generator(model.graphdef, model.params, sampling, piece=4, burst=5, **options)


@functools.cache
def likeliest():
    """Return the generator of the likeliest tokens, whose programs the tests share."""
    return generator("recommended", Sampling(0.0))


def continued(write, prompts, count, seed=0):
    parts = list(write(prompts, count, seed))
    return [[token for part in parts for token in part[row]] for row in range(len(prompts))]


@pytest.mark.parametrize("name", ["recommended", "attention"])
def test_a_prompt_has_the_same_continuation_in_a_batch_and_alone(name):
    write = generator(name, Sampling(0.8, top_k=5, top_p=0.9))
    together = continued(write, PROMPTS, 12, seed=7)
    assert [len(row) for row in together] == [12] * 3
    for prompt, expected in zip(PROMPTS, together, strict=True):
        assert continued(write, [prompt], 12, seed=7) == [expected]
    assert continued(write, PROMPTS, 12, seed=8) != together
    # A piece and a burst for three rows, and for one.
    assert write._read._cache_size() == write._burst._cache_size() == 2


def test_prompts_of_one_length_have_chances_of_their_own():
    """At a temperature at which all tokens are alike, what is drawn shows the random numbers."""
    first, second, again = continued(generator("recommended", Sampling(1e6)), [[1, 2], [3, 4], [1, 2]], 20)
    assert first == again
    assert sum(a == b for a, b in zip(first, second, strict=True)) < 10


def test_the_likeliest_tokens_are_those_of_forward_passes():
    (found,) = continued(likeliest(), [PROMPTS[1]], 6)
    model, ids = programs("recommended"), list(PROMPTS[1])
    for _ in range(6):
        row = np.zeros((1, tokens().shape[1]), np.int32)
        row[0, : len(ids)] = ids
        logits = model.forward_documents(jnp.asarray(row), jnp.asarray(np.zeros_like(row)))
        ids.append(int(np.argmax(np.asarray(logits)[0, len(ids) - 1])))
    assert ids[len(PROMPTS[1]) :] == found


def test_a_row_ends_at_the_stop_token():
    (whole,) = continued(likeliest(), [PROMPTS[1]], 12)
    stop = whole[4]
    (cut,) = continued(generator("recommended", Sampling(0.0), stop=stop), [PROMPTS[1]], 12)
    assert cut == whole[: whole.index(stop)]


def test_sampling_keeps_the_likeliest_tokens_in_their_proportions():
    logits = jnp.log(jnp.array([[0.5, 0.3, 0.15, 0.05]])).repeat(4000, axis=0)
    keys = jax.random.split(jax.random.key(0), 4000)

    def shares(**options):
        return np.bincount(sample_tokens(logits, keys, Sampling(**options)), minlength=4) / 4000

    np.testing.assert_allclose(shares(), [0.5, 0.3, 0.15, 0.05], atol=0.03)
    np.testing.assert_allclose(shares(top_k=2), [0.625, 0.375, 0, 0], atol=0.03)
    np.testing.assert_allclose(shares(top_p=0.79), [0.625, 0.375, 0, 0], atol=0.03)
    np.testing.assert_allclose(shares(top_p=0.81), [0.526, 0.316, 0.158, 0], atol=0.03)
    np.testing.assert_allclose(shares(temperature=0.0), [1, 0, 0, 0])
    np.testing.assert_allclose(shares(temperature=0.5), [0.685, 0.247, 0.062, 0.007], atol=0.03)


@pytest.mark.parametrize(
    "options", [{"temperature": 1e-38}, {"temperature": 1e-300}, {"top_p": 1e-40}, {"top_p": 1e-300}]
)
def test_what_float32_cannot_tell_from_0_takes_the_likeliest_token(options):
    logits = jnp.array([[1.0, 2.0, 4.0, 3.0], [-9.0, -3.0, -2.0, -1.0], [80.0, 81.0, -80.0, 0.0]])
    keys = jax.random.split(jax.random.key(0), 3)
    assert sample_tokens(logits, keys, Sampling(**options)).tolist() == [2, 3, 1]


def unchecked_sampling(**changes):
    """Check these values as `Sampling` does without the checks of types that tests have."""
    values = SimpleNamespace(**{"temperature": 1.0, "top_k": 0, "top_p": 1.0, **changes})
    inspect.unwrap(Sampling.__post_init__)(values)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Sampling(temperature=-1), "temperature is -1 but must be at least 0"),
        (lambda: Sampling(top_p=0), "top_p is 0 but must be above 0 and at most 1"),
        (lambda: Sampling(top_k=-3), "top_k is -3 but must be an integer of at least 0"),
        (lambda: unchecked_sampling(temperature="hot"), "temperature is 'hot' but must be a number"),
        (lambda: unchecked_sampling(top_p=None), "top_p is None but must be a number"),
        (lambda: generator("published")([[1], []], 3), "a prompt is empty"),
        (
            lambda: generator("published")([[1, VOCABULARY]], 3),
            "a prompt holds 11; its tokens are integers from 0 to 10",
        ),
        (lambda: generator("published")([[1], [-1]], 3), "a prompt holds -1; its tokens"),
        (lambda: next(generator("published")([[1]], 0)), "count is 0 but must be an integer of at least 1"),
    ],
)
def test_bad_requests_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    assert VOCABULARY > 9


def test_a_piece_is_no_larger_than_what_there_is_room_for():
    model = programs("attention")
    large = Generator(model.graphdef, model.params, Sampling(0.0), piece=10**9, burst=5)
    assert continued(large, [PROMPTS[1]], 3) == continued(generator("attention", Sampling(0.0)), [PROMPTS[1]], 3)
