"""Blocks and stablemax: both forms on golden files, sequences in parts, the limits of blocks; long forgetting."""

import functools
import inspect
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels import causal_flare, flare_mixer, stablemax_flare
from kernels.causal_flare import decode_step, init_stablemax_state, init_state
from tests.golden_checks.causal import check
from tests.kernels.causal_flare.cases import Case, inputs
from tests.numerics import assert_close, round_to_bfloat16

GOLDENS = Path(__file__).parents[2] / "goldens"


@pytest.mark.parametrize(
    ("file", "implementation"),
    [
        ("forget_p1", "reference"),
        ("forget_p1", "pallas"),
        ("block_p3_ragged", "reference"),
        ("stablemax_p2_gate", "reference"),
        ("gated_state_p2_rank2", "reference"),
    ],
)
def test_goldens(file, implementation):
    with np.load(GOLDENS / f"causal_{file}.npz") as stored:
        arrays = dict(stored)
    comparisons = check(arrays, json.loads(str(arrays.pop("config"))), implementation)
    assert {c.kind for c in comparisons} == {"output", "gradient"}
    assert all(c.passed for c in comparisons), comparisons


def test_one_block_is_the_bidirectional_mixer_and_blocks_of_one_the_causal_one():
    @jax.jit
    def mixed(x):
        return [causal_flare(**x, block=block) for block in (20, 1)], flare_mixer(**x), causal_flare(**x)

    (whole, ones), both, causal = mixed(inputs(Case(points=20, state=False)))
    assert_close("one block", whole, both, 1e-5)
    assert_close("ones", ones, causal, 0.0)


def test_blocks_in_parts_masked_and_with_large_logits_agree_with_the_dense_form():
    arguments = inputs(Case(points=23, masked=True, logits=300.0, decode_width=3))
    state = arguments.pop("initial_state")

    @functools.partial(jax.jit, static_argnames="implementation")
    def mix(x, state, implementation=None):
        return causal_flare(**x, block=4, initial_state=state, implementation=implementation, return_state=True)

    expected, final = mix(arguments, state, implementation="reference")
    queries = {name: arguments.pop(name) for name in ("q", "q_decode")}
    parts = []
    for start, stop in ((0, 8), (8, 23)):
        tokens = {name: x[:, start:stop] for name, x in arguments.items()}
        y, state = mix(queries | tokens, state)
        parts.append(y)
    assert_close("y", jnp.concatenate(parts, axis=1), expected, 1e-4)
    for name, x in final._asdict().items():
        assert_close(name, getattr(state, name), x, 1e-4)


@pytest.mark.parametrize("gated", [False, True])
def test_stablemax_in_parts_and_masked_agrees_with_the_definition(gated):
    arguments = inputs(Case(points=70, masked=True, state=False, logits=20.0))
    if gated:  # 1 at the first tokens, which then forget everything exactly
        gate = np.random.default_rng(3).random((2, 70, 2, 5))
        arguments["write_gate"] = jnp.float32(np.where(np.arange(70)[:, None, None] < 3, 1.0, gate))
    state = init_stablemax_state(2, 2, 5, 8)

    @functools.partial(jax.jit, static_argnames="implementation")
    def mix(x, state, implementation=None):
        return stablemax_flare(**x, initial_state=state, implementation=implementation, return_state=True)

    expected, final = mix(arguments, state, implementation="reference")
    q = {"q": arguments.pop("q")}
    parts = []
    for start, stop in ((0, 66), (66, 67), (67, 70)):
        tokens = {name: x[:, start:stop] for name, x in arguments.items()}
        y, state = mix(q | tokens, state)
        parts.append(y)
    assert_close("y", jnp.concatenate(parts, axis=1), expected, 1e-5)
    for a, b in zip(state, final, strict=True):
        assert_close("state", a, b, 1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_stablemax_in_kernels_has_the_values_and_gradients_of_the_recurrence(dtype):
    """With a mask, a state to go on from, and values far from 0, whose gradients of weights nearly cancel."""
    arguments = inputs(Case(points=70, masked=True, state=False, logits=20.0, decode_width=3, dtype=dtype))
    mask, arguments["v"] = arguments.pop("mask"), arguments["v"] + 3
    state = init_stablemax_state(2, 2, 5, 8)
    state = state._replace(mass=state.mass + 2.0, latents=state.latents + 1.0)

    def loss(x, implementation):
        y, state = stablemax_flare(**x, mask=mask, implementation=implementation, return_state=True)
        outputs = {"y": y, **state._asdict()}
        weights = {name: round_to_bfloat16(jnp.cos(jnp.arange(x.size))) for name, x in outputs.items()}
        return sum(jnp.vdot(weights[name], x.ravel()) for name, x in outputs.items()), outputs

    @functools.partial(jax.jit, static_argnums=1)
    def evaluate(x, implementation):
        gradients, outputs = jax.grad(loss, has_aux=True)(x, implementation)
        return outputs | {f"d{name}": x for name, x in gradients.items()}

    exact = {name: x.astype(jnp.float32) for name, x in arguments.items()}
    actual = evaluate(arguments | {"initial_state": state}, "pallas")
    expected = evaluate(exact | {"initial_state": state}, "reference")
    for (path, x), y in zip(jax.tree.leaves_with_path(actual), jax.tree.leaves(expected), strict=True):
        assert_close(jax.tree_util.keystr(path), x, y, 1e-5 if x.dtype == jnp.float32 else 2e-3)


def test_a_hundred_thousand_steps_of_decoding_stay_near_the_exact_state():
    steps, latents = 100_000, 3
    rng = np.random.default_rng(0)
    k, v = (rng.standard_normal((steps, 4)).astype(np.float32) for _ in range(2))
    q = jnp.float32(rng.standard_normal((1, latents, 4)))
    decay = np.float32(-1e-4 * rng.random(steps))

    @jax.jit
    def run(tokens):
        def step(state, token):
            k, v, decay = token
            y, state = decode_step(state, q, k[None, None], v[None, None], log_decay=decay[None, None])
            return state, jnp.max(jnp.abs(y))

        return jax.lax.scan(step, init_state(1, 1, latents, 4), tokens)

    state, sizes = run((k, v, decay))
    assert np.isfinite(sizes).all()
    sums = np.cumsum(decay.astype(np.float64))
    weights = np.exp(np.asarray(q, np.float64)[0] @ k.T.astype(np.float64) + sums[-1] - sums)
    expected = weights @ v / weights.sum(1, keepdims=True)
    actual = np.asarray(state.total / state.mass[..., None])[0, 0]
    assert np.max(np.abs(actual - expected)) <= 1e-4 * np.max(np.abs(expected))
    log_mass = state.maximum + jnp.log(state.mass)
    assert_close("log mass", log_mass[0, 0], np.log(weights.sum(1)), 1e-4)


@pytest.mark.parametrize(
    ("call", "changes", "message"),
    [
        (causal_flare, {"block": 0}, "block is 0; give a positive number of tokens"),
        (
            causal_flare,
            {"block": 4, "implementation": "pallas"},
            "implementation is 'pallas'; give one of reference, xla",
        ),
        (causal_flare, {"block": 4, "log_decay": jnp.zeros((2, 6, 2))}, "block is 4 and log_decay is given"),
        (causal_flare, {"log_decay": jnp.zeros((2, 6, 3))}, r"log_decay has shape \(2,6,3\) .* of shape \(2,6,2\)"),
        (stablemax_flare, {"power": 0}, "power is 0; give a positive finite number"),
        (
            stablemax_flare,
            {"write_gate": jnp.zeros((2, 6, 2, 5)), "implementation": "pallas"},
            "implementation is 'pallas'; give one of reference, xla",
        ),
        (stablemax_flare, {"write_gate": jnp.zeros((2, 6, 2, 4))}, r"write_gate has shape \(2,6,2,4\); .* \(2,6,2,5\)"),
        (stablemax_flare, {"initial_state": init_stablemax_state(2, 2, 5, 7)}, r"the state's latents has shape"),
    ],
)
def test_errors_name_value_and_remedy(call, changes, message):
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(call)(**{**inputs(Case(points=6, state=False)), **changes})
