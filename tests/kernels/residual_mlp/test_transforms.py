"""The fused kernels under vmap, remat and scan."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels.residual_mlp import residual_mlp
from tests.kernels.residual_mlp.cases import Case, inputs
from tests.numerics import assert_close

CASE = Case(leading=(19,), widths=(16, 16, 16), inner=0)


def call(implementation: str, x: jax.Array, weights: tuple, biases: tuple) -> jax.Array:
    return residual_mlp(x, weights, biases, residual_in=True, residual_out=True, implementation=implementation)


def value_and_gradients(function, *arguments) -> list[np.ndarray]:
    """Return the value and the gradients of the sum of squares of `function`."""
    loss = jax.value_and_grad(lambda arguments: jnp.sum(function(*arguments) ** 2))
    return jax.tree.leaves(jax.jit(loss)(arguments))


def assert_same(function, *arguments) -> None:
    """Compare `function(implementation)` between pallas and the reference."""
    actual, expected = (value_and_gradients(function(name), *arguments) for name in ("pallas", "reference"))
    for index, (a, b) in enumerate(zip(actual, expected, strict=True)):
        assert_close(f"leaf {index}", a, b, 1e-5)


@pytest.fixture
def arguments():
    arrays = inputs(CASE)
    return arrays["x"], *arrays["branches"][0]


def test_vmap_over_inputs(arguments):
    x, weights, biases = arguments
    batch = jnp.stack([x, 2 * x, -x])
    assert_same(lambda name: lambda x, *p: jax.vmap(lambda x: call(name, x, *p))(x), batch, weights, biases)


def test_vmap_over_weights(arguments):
    x, weights, biases = arguments
    ensemble = [jnp.stack([w, -w]) for w in weights]
    assert_same(lambda name: lambda x, w, b: jax.vmap(lambda w: call(name, x, w, b))(w), x, tuple(ensemble), biases)


def test_remat_in_scan(arguments):
    x, weights, biases = arguments
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, 0.5 * leaf]), (weights, biases))

    def function(name: str):
        layer = jax.checkpoint(lambda x, parameters: (call(name, x, *parameters), None))
        return lambda x, stacked: jax.lax.scan(layer, x, stacked)[0]

    assert_same(function, x, stacked)


def test_second_use_of_one_weight_adds_up(arguments):
    assert_same(lambda name: lambda x, w, b: call(name, call(name, x, w, b), w, b), *arguments)
