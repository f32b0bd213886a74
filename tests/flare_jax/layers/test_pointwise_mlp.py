"""The two-layer MLP with plain and gated activations, and what the names of activations mean in each model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.layers import PointwiseMLP
from flare_jax.layers.activations import POINTWISE_ACTIVATIONS, TS1_ACTIVATIONS, TS3_ACTIVATIONS, find_activation
from flare_jax.layers.initializers import fan_in_uniform
from flare_jax.parameter_keys import ParameterKeys
from tests.flare_jax.models import naive_transolver
from tests.numerics import assert_close, rms_ratio

TABLES = {
    "pointwise": (POINTWISE_ACTIVATIONS, naive_transolver.POINTWISE),
    "ts1": (TS1_ACTIVATIONS, naive_transolver.TS1),
    "ts3": (TS3_ACTIVATIONS, naive_transolver.TS3),
}
X = np.linspace(-4, 4, 48, dtype=np.float32).reshape(8, 6)


@pytest.mark.parametrize(("table", "name"), [(table, name) for table, (_, naive) in TABLES.items() for name in naive])
def test_activations(table, name):
    ours, naive = TABLES[table]
    assert_close(str(name), find_activation(name, ours)(jnp.asarray(X)), naive[name](X.astype(np.float64)), 2e-6)


def test_the_two_gelus_differ():
    assert rms_ratio(TS3_ACTIVATIONS[None](jnp.asarray(X)), TS1_ACTIVATIONS[None](jnp.asarray(X))) > 1e-4


@pytest.mark.parametrize(("act", "inner"), [("relu", 10), ("swiglu", 5)])
def test_mlp(act, inner):
    activations = {**POINTWISE_ACTIVATIONS, **TS1_ACTIVATIONS}
    mlp = PointwiseMLP(6, 10, 3, act=act, activations=activations, rngs=ParameterKeys(0))
    assert (mlp.fc1.kernel.shape, mlp.fc2.kernel.shape) == ((6, 10), (inner, 3))
    naive = {**naive_transolver.POINTWISE, **naive_transolver.TS1}[act]
    expected = naive(X.astype(np.float64) @ np.asarray(mlp.fc1.kernel[...])) @ np.asarray(mlp.fc2.kernel[...])
    assert_close("mlp", mlp(jnp.asarray(X)), expected, 1e-5)


def test_default_is_the_exact_gelu():
    assert PointwiseMLP(6, 10, 3, rngs=ParameterKeys(0)).activation is POINTWISE_ACTIVATIONS["gelu_erf"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"act": None}, "act is None but must be one of 'gelu'"),
        ({"act": "leaky"}, "act is 'leaky' .did you mean 'leaky_relu'"),
        ({"act": "swiglu", "activations": TS1_ACTIVATIONS}, "act 'swiglu' halves the hidden vector but its width is 9"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        PointwiseMLP(6, 9, 3, **options, rngs=ParameterKeys(0))


def test_fan_in_distribution():
    values = np.asarray(fan_in_uniform(25)(jax.random.key(0), (50, 80)))
    assert np.abs(values).max() <= 0.2
    assert abs(values.std() / 0.2 * np.sqrt(3) - 1) < 0.05
