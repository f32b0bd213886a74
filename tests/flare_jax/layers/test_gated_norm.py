"""The gated RMS norm against its formula, in both orders and in groups."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flare_jax.layers.gated_norm import GatedRMSNorm
from tests.numerics import assert_close, rms_ratio


def inputs():
    return jax.random.normal(jax.random.key(0), (2, 2, 5, 12)) * jnp.asarray([0.01, 3.0])[:, None, None, None]


@pytest.mark.parametrize("norm_before_gate", [False, True])
@pytest.mark.parametrize("groups", [1, 3])
def test_formula(norm_before_gate, groups):
    norm = GatedRMSNorm(12, norm_before_gate=norm_before_gate, num_groups=groups)
    norm.scale = nnx.Param(jnp.linspace(0.5, 2, 12))
    x, gate = (np.asarray(array, np.float64) for array in inputs())
    scale, silu = np.linspace(0.5, 2, 12), gate / (1 + np.exp(-gate))

    def normalize(x):
        parts = [part / np.sqrt((part**2).mean(-1, keepdims=True) + 1e-5) for part in np.split(x, groups, -1)]
        return scale * np.concatenate(parts, -1)

    expected = normalize(x) * silu if norm_before_gate else normalize(x * silu)
    assert_close("y", norm(*inputs()), expected, 1e-6)


def test_statistics_are_float32_in_bfloat16():
    x, gate = (array.astype(jnp.bfloat16) for array in inputs())
    y = GatedRMSNorm(12, norm_before_gate=True, dtype="bfloat16")(x, gate)
    expected = GatedRMSNorm(12, norm_before_gate=True)(x.astype(jnp.float32), gate.astype(jnp.float32))
    assert y.dtype == jnp.bfloat16
    # Half a unit in the last place of bfloat16 at most, from rounding the result alone.
    assert rms_ratio(y, expected) < 2.0**-8


def test_errors():
    with pytest.raises(ValueError, match="num_groups 5 does not divide channel_dim 12"):
        GatedRMSNorm(12, norm_before_gate=True, num_groups=5)
