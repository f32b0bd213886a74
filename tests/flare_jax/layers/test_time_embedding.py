"""The sinusoidal embedding of time by its formula, both shapes of time, and the errors."""

import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.layers import TimeEmbedding, check_time, sinusoidal_embedding
from flare_jax.parameter_keys import ParameterKeys
from tests.numerics import assert_close


@pytest.mark.parametrize("width", [8, 7, 2, 1])
def test_cosines_then_sines(width):
    times = np.array([0.0, 0.3, 17.0])
    expected = np.zeros((3, width))
    for j in range(width // 2):
        angle = times * 10000.0 ** (-j / (width // 2))
        expected[:, j], expected[:, width // 2 + j] = np.cos(angle), np.sin(angle)
    assert_close("embedding", sinusoidal_embedding(jnp.asarray(times, jnp.float32), width), expected, 1e-6)


def test_times_may_have_an_axis_of_one():
    layer = TimeEmbedding(6, rngs=ParameterKeys(0))
    layer.fc1.bias[...] = jnp.arange(6.0)
    times = jnp.array([0.3, 2.0])
    flat = layer(times)
    assert flat.shape == (2, 1, 6)
    assert_close("axis", layer(times[:, None]), flat, 0.0)
    hidden = np.asarray(sinusoidal_embedding(times, 6) @ layer.fc1.kernel[...] + jnp.arange(6.0), np.float64)
    expected = (hidden / (1 + np.exp(-hidden))) @ np.asarray(layer.fc2.kernel[...])
    assert_close("layers", flat[:, 0], expected, 1e-5)


@pytest.mark.parametrize(
    ("time", "time_input", "message"),
    [
        (None, True, "time is None but time_input is True; pass one time per sample"),
        (jnp.ones(2), False, r"time has shape \(2,\) but the model has time_input=False"),
        (jnp.ones(3), True, r"time has shape \(3,\) but must be \[B\] = \(2,\) or \[B, 1\]"),
        (jnp.ones((1, 2)), True, r"time has shape \(1, 2\)"),
        (jnp.ones(2, int), True, "time has dtype int32 but must be floating point"),
    ],
)
def test_bad_times(time, time_input, message):
    with pytest.raises(ValueError, match=message):
        check_time(time, 2, time_input)


def test_good_times():
    check_time(None, 2, False)
    check_time(jnp.ones(2), 2, True)
    check_time(jnp.ones((2, 1)), 2, True)
