"""What the op computes: two reference forms, decoding, sequences in parts, causality, and its two limits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels import causal_flare, flare_mixer
from kernels.causal_flare import State, decode_step, init_state
from kernels.causal_flare.operands import Operands, empty_state, merge
from kernels.causal_flare.reference import dense_mixer, recurrent_mixer
from tests.kernels.causal_flare.cases import Case, inputs, use_small_tiles
from tests.numerics import assert_close

FAST = ["xla", "pallas"]


@pytest.mark.parametrize(
    "case",
    [
        Case(points=19, masked=True, decode_width=3),
        Case(points=12, logits=300.0),
        Case(points=19, masked=True, decay=2.0, resets=True),
    ],
    ids=str,
)
def test_the_two_reference_forms_agree(case):
    arguments = inputs(case)
    state, mask = arguments.pop("initial_state"), arguments.pop("mask", None)
    results = []
    for form in (dense_mixer, recurrent_mixer):

        @jax.jit
        def evaluate(arguments, state):
            def run(x, state):
                return form(Operands(**x, mask=mask), state, scale=1.0)

            (y, final), pull_back = jax.vjp(run, arguments, state)
            return y, final, pull_back((jnp.cos(y), State(0 * final.maximum, jnp.ones_like(final.mass), final.total)))

        results.append(jax.tree.leaves(evaluate(arguments, state)))
    for i, (a, b) in enumerate(zip(*results, strict=True)):
        assert_close(str(i), a, b, 1e-5 if case.logits < 100 else 1e-4)


def test_the_definition():
    q, k, v = (np.asarray(inputs(Case(points=9, state=False))[name], np.float64) for name in "qkv")
    y = jax.jit(lambda *x: causal_flare(*x, scale=0.5))(*map(jnp.float32, (q, k, v)))
    t, h = 6, 1
    weights = np.exp(0.5 * q[h] @ k[0, : t + 1, h].T)
    latents = weights / weights.sum(axis=1, keepdims=True) @ v[0, : t + 1, h]
    read = np.exp(0.5 * q[h] @ k[0, t, h])
    assert_close("y", y[0, t, h], read / read.sum() @ latents, 1e-6)


@pytest.mark.parametrize("implementation", FAST)
def test_the_first_token_and_constant_values_are_returned(implementation):
    arguments = inputs(Case(points=20, state=False, logits=400.0))
    mix = jax.jit(lambda x: causal_flare(**x, implementation=implementation))
    assert_close("first", mix(arguments)[:, 0], arguments["v"][:, 0], 1e-5)
    constant = arguments | {"v": jnp.ones_like(arguments["v"])}
    np.testing.assert_allclose(mix(constant), 1.0, rtol=1e-5)


def test_the_last_token_is_that_of_the_bidirectional_mixer():
    arguments = inputs(Case(points=20, state=False))
    y, state = jax.jit(lambda x: causal_flare(**x, return_state=True))(arguments)
    both, latents = jax.jit(lambda x: flare_mixer(**x, return_latents=True))(arguments)
    assert_close("y", y[:, -1], both[:, -1], 1e-5)
    assert_close("latents", state.total / state.mass[..., None], latents, 1e-5)


@pytest.mark.parametrize(
    ("implementation", "case"),
    [
        ("xla", Case(points=25, masked=True, decay=2.0, resets=True)),
        ("pallas", Case(points=25, decode_width=3, state=False)),
    ],
)
def test_prefill_then_decode_equals_one_forward(case, implementation):
    arguments = inputs(case)
    state = arguments.pop("initial_state", init_state(2, 2, case.latents, case.channels))
    queries = {name: arguments.pop(name) for name in ("q", "q_decode") if name in arguments}

    @jax.jit
    def mix(tokens, state):
        return causal_flare(**queries, **tokens, initial_state=state, implementation=implementation, return_state=True)

    step = jax.jit(lambda token, state: decode_step(state, **queries, **token))
    whole, final = mix(arguments, state)
    prefix, state = mix({name: x[:, :17] for name, x in arguments.items()}, state)
    outputs = [prefix]
    for t in range(17, 25):
        y, state = step({name: x[:, t] for name, x in arguments.items()}, state)
        outputs.append(y[:, None])
    assert_close("y", jnp.concatenate(outputs, axis=1), whole, 1e-5)
    for name, x in state._asdict().items():
        assert_close(name, x, getattr(final, name), 1e-5)


@functools.cache
def gradients_of_a_sequence(implementation, in_parts):
    """Return the gradients of a loss of outputs and state, of a sequence that is mixed at once or in two parts."""
    arguments = inputs(Case(points=30, batch=1))
    state = arguments.pop("initial_state")
    q = arguments.pop("q")

    def run(q, tokens, state):
        return causal_flare(q, **tokens, initial_state=state, implementation=implementation, return_state=True)

    def parts(q, tokens, state):
        first, middle = run(q, {name: x[:, :11] for name, x in tokens.items()}, state)
        second, final = run(q, {name: x[:, 11:] for name, x in tokens.items()}, middle)
        return jnp.concatenate([first, second], axis=1), final

    def loss(*x):
        y, final = (parts if in_parts else run)(*x)
        # Latents and log masses do not depend on the reference point, the running maximum.
        return jnp.sum(jnp.sin(y)) + jnp.sum(final.total / final.mass[..., None]) + jnp.sum(jnp.log(final.mass))

    return jax.tree.leaves(jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(q, arguments, state))


@pytest.mark.parametrize("implementation", FAST)
def test_gradients_flow_through_a_sequence_in_parts(implementation):
    """Those of the whole are the reference's, with which each implementation is compared elsewhere."""
    whole = gradients_of_a_sequence("reference", in_parts=False)
    for i, (a, b) in enumerate(zip(gradients_of_a_sequence(implementation, in_parts=True), whole, strict=True)):
        assert_close(str(i), a, b, 2e-5)


@pytest.mark.parametrize("implementation", FAST)
def test_later_tokens_do_not_matter(implementation, monkeypatch):
    use_small_tiles(monkeypatch)
    arguments = inputs(Case(points=40))
    changed = {name: x.at[:, 21:].add(1.0) if name in "kv" else x for name, x in arguments.items()}
    mix = jax.jit(lambda x: causal_flare(**x, implementation=implementation))
    y, y_changed = mix(arguments), mix(changed)
    np.testing.assert_array_equal(y[:, :21], y_changed[:, :21])
    assert np.all(y[:, 21:] != y_changed[:, 21:])


def test_merging_states_is_associative_and_starts_empty():
    a, b = (inputs(Case(logits=x))["initial_state"] for x in (1.0, 9.0))
    c = State(a.maximum + 40, a.mass, -a.total)
    left, right = merge(merge(a, b), c), merge(a, merge(b, c))
    for x, y in zip(left, right, strict=True):
        assert_close("merge", x, y, 1e-6)
    for x, y in zip(merge(empty_state(a.mass.shape, 8), a), a, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("implementation", ["reference", *FAST])
def test_logits_of_ten_thousand_stay_finite(implementation):
    arguments = inputs(Case(points=20, logits=1e4, state=False))

    @jax.jit
    def evaluate(x):
        return jax.value_and_grad(lambda x: jnp.sum(causal_flare(**x, implementation=implementation)))(x)

    assert all(np.isfinite(x).all() for x in jax.tree.leaves(evaluate(arguments)))


def test_a_state_that_starts_at_minus_infinity_is_the_empty_one():
    arguments = inputs(Case(points=6, state=False))
    empty = init_state(2, 2, 5, 8)
    infinite = empty._replace(maximum=jnp.full_like(empty.maximum, -jnp.inf))
    mix = jax.jit(lambda state: causal_flare(**arguments, initial_state=state))
    np.testing.assert_array_equal(mix(infinite), mix(empty))
