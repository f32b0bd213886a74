"""What the op computes, from its definition: two reference forms, normalisation, and sequences in parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels import causal_linear_attention
from kernels.causal_linear_attention.reference import quadratic_attention, recurrent_attention
from tests.kernels.causal_linear_attention.cases import Case, inputs
from tests.numerics import assert_close

FAST = ["xla", "pallas"]


def test_the_two_reference_forms_agree():
    arguments = inputs(Case(points=23, width=5, channels=7)).values()
    cotangents = jnp.ones((2, 23, 2, 7)), jnp.ones((2, 2, 5, 7))
    results = []
    for form in (quadratic_attention, recurrent_attention):

        @jax.jit
        def evaluate(*arguments):
            outputs, pull_back = jax.vjp(lambda *x: form(*x, 0.25), *arguments)
            return outputs, pull_back(cotangents)

        results.append(jax.tree.leaves(evaluate(*arguments)))
    for i, (a, b) in enumerate(zip(*results, strict=True)):
        assert_close(str(i), a, b, 1e-6)


def test_default_scale_is_one_over_n():
    q, k, v = (np.asarray(inputs(Case(points=9, state=False))[name], np.float64) for name in "qkv")
    y = jax.jit(causal_linear_attention)(*map(jnp.float32, (q, k, v)))
    t = 5
    expected = sum(np.einsum("bhd,bhd,bhc->bhc", q[:, t], k[:, i], v[:, i]) for i in range(t + 1)) / 9
    assert_close("y", y[:, t], expected, 1e-6)


@pytest.mark.parametrize("implementation", ["reference", *FAST])
def test_normalized_weights_add_up_to_one(implementation):
    case = Case(points=20, normalize=True, state=False)
    arguments = inputs(case) | {"v": jnp.ones((2, 20, 2, 8))}
    attend = jax.jit(lambda x: causal_linear_attention(**x, normalize=True, implementation=implementation))
    y = attend(arguments)
    np.testing.assert_allclose(y, 1.0, rtol=1e-5)


def test_normalized_is_the_ratio_of_two_sums():
    arguments = inputs(Case(points=12, normalize=True, state=False))
    q, k, v = (np.asarray(arguments[name], np.float64) for name in "qkv")
    weights = np.einsum("bnhd,bmhd->bhnm", q, k) * np.tri(12)
    expected = np.einsum("bhnm,bmhc->bnhc", weights / weights.sum(-1, keepdims=True), v)
    y = jax.jit(lambda x: causal_linear_attention(**x, normalize=True))(arguments)
    assert_close("y", y, expected, 1e-5)


def test_a_divisor_of_zero_gives_zero_and_finite_gradients():
    arguments = inputs(Case(points=6, normalize=True, state=False))
    arguments["q"] = arguments["q"].at[:, 2].set(0)

    @jax.jit
    def evaluate(x):
        return jax.value_and_grad(lambda x: jnp.sum(causal_linear_attention(**x, normalize=True)[:, 2]))(x)

    value, gradients = evaluate(arguments)
    assert value == 0
    assert all(np.isfinite(x).all() for x in gradients.values())


@pytest.mark.parametrize(("implementation", "normalize"), [("xla", True), ("pallas", False)])
def test_a_sequence_in_parts_equals_the_whole(implementation, normalize):
    arguments = inputs(Case(points=30, normalize=normalize))
    state = arguments.pop("initial_state")

    def run(arguments, state):
        return causal_linear_attention(
            **arguments,
            scale=0.5,
            normalize=normalize,
            initial_state=state,
            implementation=implementation,
            return_state=True,
        )

    def whole(arguments, state):
        return run(arguments, state)

    def parts(arguments, state):
        first, middle = run({name: x[:, :11] for name, x in arguments.items()}, state)
        second, final = run({name: x[:, 11:] for name, x in arguments.items()}, middle)
        return jnp.concatenate([first, second], axis=1), final

    def results(function):
        @jax.jit
        def evaluate(arguments, state):
            (y, final), pull_back = jax.vjp(function, arguments, state)
            return y, final, pull_back((jnp.cos(y), jnp.sin(final)))

        return jax.tree.leaves(evaluate(arguments, state))

    for i, (a, b) in enumerate(zip(results(parts), results(whole), strict=True)):
        assert_close(str(i), a, b, 1e-5)


def test_float16_states_do_not_overflow():
    q, k = (jnp.full((1, 50, 1, 8), x, jnp.float16) for x in (0.01, 100.0))

    @jax.jit
    def attend(q, k):
        return causal_linear_attention(q, k, k, scale=1.0, implementation="xla", return_state=True)

    y, state = attend(q, k)
    assert jnp.max(state) > jnp.finfo(jnp.float16).max
    np.testing.assert_allclose(np.asarray(y[0, :, 0, 0], np.float32), 800 * np.arange(1, 51), rtol=2e-3)


def test_later_tokens_do_not_matter():
    arguments = inputs(Case(points=24))
    changed = {name: x.at[:, 13:].add(1.0) if name in "qkv" else x for name, x in arguments.items()}
    attend = jax.jit(lambda x: causal_linear_attention(**x))
    y, y_changed = attend(arguments), attend(changed)
    np.testing.assert_array_equal(y[:, :13], y_changed[:, :13])
    assert np.all(y[:, 13:] != y_changed[:, 13:])
