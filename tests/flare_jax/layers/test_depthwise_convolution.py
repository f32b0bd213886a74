"""The depthwise convolution against numpy, its two alignments, and its initial parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.layers.depthwise_convolution import DepthwiseConvolution
from flare_jax.parameter_keys import ParameterKeys
from tests.numerics import assert_close, rms_ratio


def layer(channels=4, width=3, causal=False, dtype="float32"):
    return DepthwiseConvolution(channels, width=width, causal=causal, dtype=dtype, rngs=ParameterKeys(0))


@pytest.mark.parametrize(("width", "causal"), [(1, False), (3, False), (5, False), (1, True), (3, True), (4, True)])
@pytest.mark.parametrize("length", [1, 2, 9])
def test_cross_correlation_per_channel(width, causal, length):
    convolution = layer(width=width, causal=causal)
    x = np.asarray(jax.random.normal(jax.random.key(0), (2, length, 4)))
    taps, expected = np.asarray(convolution.kernel[...])[:, 0], np.zeros(x.shape) + np.asarray(convolution.bias[...])
    for n in range(length):
        for tap in range(width):
            source = n + tap - (width - 1 if causal else width // 2)
            if 0 <= source < length:
                expected[:, n] += taps[tap] * x[:, source]
    assert_close("y", convolution(jnp.asarray(x)), expected, 1e-6)


def test_bfloat16():
    x = jax.random.normal(jax.random.key(0), (2, 9, 4))
    y = layer(dtype="bfloat16")(x)
    assert y.dtype == jnp.bfloat16
    assert 1e-4 < rms_ratio(y, layer()(x)) < 2e-2


def test_initial_parameters_are_uniform_within_the_fan_in_bound():
    convolution = layer(channels=4000, width=4, causal=True)
    for values in (np.asarray(convolution.kernel[...]), np.asarray(convolution.bias[...])):
        assert np.abs(values).max() <= 0.5
        assert abs(values.mean()) < 5 * 0.5 / np.sqrt(3 * values.size)
        assert abs((values**2).mean() - 1 / 12) < 5 * np.sqrt(1 / 180 / values.size)
    assert convolution.kernel.shape == (4, 1, 4000)


def test_errors():
    with pytest.raises(ValueError, match="conv_width is 4 but a centred convolution needs an odd one; use 5"):
        layer(width=4)
    with pytest.raises(ValueError, match="conv_width is 0 but must be an integer of at least 1"):
        layer(width=0, causal=True)
