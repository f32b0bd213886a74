"""The chunked selective scan against the recurrence, with gradients, long sequences and large decays."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.mixers.selective_scan import selective_scan
from tests.flare_jax.mixers.naive_state_space import numpy_scan, sequential_scan
from tests.numerics import assert_close

scan_in_fours = jax.jit(functools.partial(selective_scan, chunk_size=4))
NAMES = ("x", "step", "rate", "b", "c", "initial_state")


def random_inputs(batch=2, length=13, heads=4, width=3, groups=2, state_dim=5, *, longest_step=1.0):
    generator = np.random.default_rng(0)
    step = np.exp(generator.uniform(np.log(1e-3), np.log(longest_step), (batch, length, heads)))
    arrays = (
        generator.standard_normal((batch, length, heads, width)),
        step,
        -generator.uniform(0.1, 3, heads),
        generator.standard_normal((batch, length, groups, state_dim)),
        generator.standard_normal((batch, length, groups, state_dim)),
        generator.standard_normal((heads, width, state_dim)),
    )
    return tuple(jnp.asarray(np.float32(array)) for array in arrays)


def values_and_gradients(scan, arguments, **options):
    """Return the result and the gradients of a random linear function of it."""

    @jax.jit
    def evaluate(arguments):
        y, pull_back = jax.vjp(lambda *given: scan(*given, **options), *arguments)
        return y, pull_back(jax.random.normal(jax.random.key(1), y.shape))

    return evaluate(arguments)


def compare(arguments, tolerance, **options):
    y, grads = values_and_gradients(selective_scan, arguments, **options)
    expected, expected_grads = values_and_gradients(sequential_scan, arguments)
    assert_close("y", y, expected, tolerance)
    for name, grad, wanted in zip(NAMES, grads, expected_grads, strict=False):
        assert_close(name, grad, wanted, tolerance)


@pytest.mark.parametrize(
    ("sizes", "chunk_size", "with_state"),
    [
        ({"length": 1}, 4, True),
        ({"length": 3}, 4, False),
        ({"length": 8, "groups": 1}, 4, True),
        ({"length": 13, "groups": 4}, 5, True),
        ({"length": 13, "heads": 1, "groups": 1, "width": 1, "state_dim": 1}, 64, False),
    ],
    ids=["one entry", "below a chunk", "whole chunks", "padded chunk", "one chunk"],
)
def test_chunks_are_the_recurrence(sizes, chunk_size, with_state):
    arguments = random_inputs(**sizes)
    compare(arguments if with_state else arguments[:-1], 2e-6, chunk_size=chunk_size)


def test_long_sequence():
    compare(random_inputs(batch=1, length=3001, heads=2, width=2, groups=1, state_dim=3), 1e-5)


def test_the_references_agree():
    arguments = random_inputs()
    assert_close("y", jax.jit(sequential_scan)(*arguments), numpy_scan(*arguments), 1e-6)


def test_closed_form():
    """y_t = Σ_{s≤t} (c_t·b_s) exp(Σ_{s<m≤t} step_m rate) step_s x_s."""
    arguments = random_inputs(heads=2, groups=2)[:-1]
    x, step, rate, b, c = (np.asarray(array, np.float64) for array in arguments)
    expected = np.zeros(x.shape)
    for t in range(x.shape[1]):
        for s in range(t + 1):
            decay = np.exp((step[:, s + 1 : t + 1] * rate).sum(1))
            weight = (c[:, t] * b[:, s]).sum(-1) * decay * step[:, s]
            expected[:, t] += weight[..., None] * x[:, s]
    assert_close("y", scan_in_fours(*arguments), expected, 1e-6)


def test_small_steps_beside_large_ones():
    """A difference of sums from the start of the chunk would lose the small steps: 1e5 has no digits below 1e-2."""
    x, step, rate, b, c, state = random_inputs(length=40)
    step = jnp.where(jnp.arange(40)[:, None] % 8 == 3, 1e5, step)
    arguments = (x, step, rate, b, c, state)
    y, grads = values_and_gradients(selective_scan, arguments, chunk_size=16)
    assert_close("y", y, numpy_scan(*arguments), 1e-6)
    assert all(np.isfinite(np.asarray(grad)).all() for grad in grads)


def test_a_state_that_decays_at_once_is_forgotten():
    x, _, rate, b, c, state = random_inputs()
    step = jnp.full(x.shape[:3], 1e4)
    y = scan_in_fours(x, step, rate, b, c, state)
    assert_close("y", y, 1e4 * np.repeat(np.sum(np.multiply(b, c), -1), 2, axis=2)[..., None] * x, 1e-6)


def test_bfloat16_inputs_are_computed_in_float32():
    arguments = tuple(np.asarray(array).astype(jnp.bfloat16) for array in random_inputs())
    y = jax.jit(selective_scan)(*arguments)
    assert y.dtype == jnp.float32
    assert_close("y", y, numpy_scan(*(array.astype(np.float32) for array in arguments)), 1e-6)


def test_memory_is_linear_in_the_length():
    def largest_array(length):
        jaxpr = jax.make_jaxpr(selective_scan)(*random_inputs(length=length))
        return max(value.aval.size for equation in jaxpr.jaxpr.eqns for value in equation.outvars)

    assert largest_array(1024) <= 2.1 * largest_array(512)


def test_errors():
    x, step, rate, b, c, _ = random_inputs(groups=3)
    with pytest.raises(ValueError, match="b and c have 3 groups, which do not divide the 4 heads of x"):
        selective_scan(x, step, rate, b, c)
    with pytest.raises(ValueError, match="chunk_size is 0"):
        selective_scan(x, step, rate, b[:, :, :2], c[:, :, :2], chunk_size=0)
