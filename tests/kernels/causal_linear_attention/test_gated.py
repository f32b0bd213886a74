"""The state that decays: chunks against the definition, with resets, masks and states; parts of a sequence; errors."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels import gated_linear_attention
from tests.numerics import assert_close

BATCH, POINTS, HEADS, WIDTH, CHANNELS = 2, 150, 2, 4, 5


def inputs(per_channel, strong=False, dtype="float32"):
    rng = np.random.default_rng(0)
    shape = (BATCH, POINTS, HEADS)
    arrays = {"q": (*shape, WIDTH), "k": (*shape, WIDTH), "v": (*shape, CHANNELS)}
    arguments = {name: jnp.asarray(rng.standard_normal(size), dtype) for name, size in arrays.items()}
    decay = -(300.0 if strong else 0.3) * rng.random((*shape, WIDTH) if per_channel else shape)
    decay[0, 70], decay[1, 100] = -np.inf, -1e30
    arguments["log_decay"] = jnp.float32(decay)
    arguments["initial_state"] = jnp.float32(rng.standard_normal((BATCH, HEADS, WIDTH, CHANNELS)))
    return arguments, jnp.asarray(rng.random((BATCH, POINTS)) < 0.8)


def outputs_and_gradients(arguments, mask, implementation):
    @jax.jit
    def evaluate(arguments):
        def run(arguments):
            return gated_linear_attention(**arguments, mask=mask, implementation=implementation, return_state=True)

        outputs, pull_back = jax.vjp(run, arguments)
        return outputs, pull_back(jax.tree.map(jnp.cos, outputs))[0]

    (y, state), gradients = evaluate(arguments)
    return {"y": y, "state": state} | {f"d{name}": x for name, x in gradients.items()}


@pytest.mark.parametrize("strong", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
def test_chunks_agree_with_the_definition(per_channel, strong):
    arguments, mask = inputs(per_channel, strong)
    expected = outputs_and_gradients(arguments, mask, "reference")
    for name, x in outputs_and_gradients(arguments, mask, "xla").items():
        assert np.isfinite(x).all(), name
        # Where everything is forgotten at once this gradient is what is left of terms that cancel.
        assert_close(name, x, expected[name], 2e-3 if strong and name == "dlog_decay" else 5e-5)


def test_bfloat16_agrees_with_float32():
    arguments, mask = inputs(True, dtype="bfloat16")
    wide = {name: x.astype(jnp.float32) for name, x in arguments.items()}

    @functools.partial(jax.jit, static_argnames="implementation")
    def mix(x, implementation=None):
        return gated_linear_attention(**x, mask=mask, implementation=implementation)

    y = mix(arguments)
    assert y.dtype == jnp.bfloat16
    assert_close("y", y, mix(wide, implementation="reference"), 2e-2)


def test_a_sequence_in_parts_is_the_whole():
    arguments, mask = inputs(True)
    state = arguments.pop("initial_state")
    mix = jax.jit(lambda x, mask, state: gated_linear_attention(**x, mask=mask, initial_state=state, return_state=True))
    whole, final = mix(arguments, mask, state)
    parts = []
    for start, stop in ((0, 71), (71, 72), (72, 150)):
        y, state = mix({name: x[:, start:stop] for name, x in arguments.items()}, mask[:, start:stop], state)
        parts.append(y)
    assert_close("y", jnp.concatenate(parts, axis=1), whole, 1e-5)
    assert_close("state", state, final, 1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"log_decay": jnp.zeros((2, 150, 3))}, r"log_decay has shape \(2,150,3\) and dtype float32; give a float32"),
        ({"log_decay": jnp.zeros((2, 150, 2), jnp.bfloat16)}, "dtype bfloat16; give a float32 array"),
        ({"implementation": "pallas"}, "implementation is 'pallas'; give one of reference, xla"),
        ({"scale": -1}, "scale is -1; give a positive finite number"),
    ],
)
def test_errors_name_value_and_remedy(changes, message):
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(gated_linear_attention)(**{**inputs(False)[0], **changes})
