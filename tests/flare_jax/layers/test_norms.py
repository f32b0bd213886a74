"""Norms against numpy in float64, with the epsilons of PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.layers import LayerNorm, RMSNorm, make_norm
from tests.numerics import assert_close


def perturbed(norm, seed=0):
    """Give scale and bias random values, so that they matter."""
    keys = jax.random.split(jax.random.key(seed), 2)
    norm.scale[...] = 1 + 0.3 * jax.random.normal(keys[0], norm.scale.shape)
    if hasattr(norm, "bias"):
        norm.bias[...] = 0.3 * jax.random.normal(keys[1], norm.bias.shape)
    return norm


def numpy_norm(norm, x):
    x, scale = np.asarray(x, np.float64), np.asarray(norm.scale[...], np.float64)
    if isinstance(norm, RMSNorm):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1.1920929e-07) * scale
    bias = np.asarray(norm.bias[...], np.float64)
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * scale + bias


@pytest.mark.parametrize("kind", [LayerNorm, RMSNorm])
# Amplitudes near the root of epsilon tell 1e-5 from 1e-6 and 1.2e-7 from 0; the large one tests the range.
@pytest.mark.parametrize("amplitude", [3e-4, 3e-3, 1.0, 1e4])
def test_formula(kind, amplitude):
    norm = perturbed(kind(12))
    x = amplitude * jax.random.normal(jax.random.key(1), (3, 5, 12))
    assert_close("norm", norm(x), numpy_norm(norm, x), 1e-6)


def test_layer_norm_of_features_far_from_zero():
    norm = perturbed(LayerNorm(32))
    x = 1000 + jax.random.normal(jax.random.key(1), (4, 32))
    assert_close("norm", norm(x), numpy_norm(norm, x), 1e-3)


@pytest.mark.parametrize("kind", [LayerNorm, RMSNorm])
def test_statistics_are_float32_in_bfloat16(kind):
    norm = perturbed(kind(256, dtype=jnp.bfloat16))
    x = (30 + jax.random.normal(jax.random.key(1), (4, 256))).astype(jnp.bfloat16)
    y = norm(x)
    assert y.dtype == jnp.bfloat16
    # Only the rounding of the result to bfloat16 (2⁻⁹ relative) may remain.
    assert_close("norm", y, numpy_norm(norm, x), 4e-3)


def test_make_norm():
    assert isinstance(make_norm(4, rmsnorm=True), RMSNorm)
    assert isinstance(make_norm(4, rmsnorm=False), LayerNorm)
