"""The reference and the kernels' activations against independent float64 formulas."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from kernels._tile_products import Products
from kernels.residual_mlp.activations import value_and_slope
from tests.kernels.residual_mlp.cases import BLOCK, Case, apply, inputs
from tests.numerics import assert_close

FORMULAS = {
    "gelu_tanh": lambda z: 0.5 * z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))),
    "gelu_erf": lambda z: 0.5 * z * (1 + np.vectorize(math.erf)(z / math.sqrt(2))),
    "silu": lambda z: z / (1 + np.exp(-z)),
}


def formula(case: Case, arrays: dict) -> np.ndarray:
    """Return the result of a single-branch case from the definition, in float64."""

    def wide(array) -> np.ndarray:
        return np.asarray(array, np.float64)

    stream, activate = wide(arrays["x"]), FORMULAS[case.activation]
    if (projection := arrays.get("projection")) is not None:
        stream = wide(projection.skip) + stream @ wide(projection.weight) + wide(projection.bias)
    u = stream
    if (norm := arrays.get("norm")) is not None:
        centred = u - u.mean(-1, keepdims=True) if norm.kind == "layer" else u
        u = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + norm.epsilon) * wide(norm.scale)
        u = u if norm.bias is None else u + wide(norm.bias)
    weights, biases = ([wide(array) for array in arrays["branches"][0][i]] for i in range(2))
    if len(weights) == 1:
        y = u @ weights[0] + biases[0]
        y = u + y if case.residual_in and case.residual_out and y.shape == u.shape else y
    else:
        hidden = activate(u @ weights[0] + biases[0])
        u = u + hidden if case.residual_in and u.shape == hidden.shape else hidden
        for weight, bias in zip(weights[1:-1], biases[1:-1], strict=True):
            u = u + activate(u @ weight + bias)
        y = u @ weights[-1] + biases[-1]
        y = u + y if case.residual_out and u.shape == y.shape else y
    return stream + y if case.outer_residual else y


@pytest.mark.parametrize(
    "case",
    [
        Case(inner=-1),
        Case(inner=-1, residual_in=False),
        Case(inner=-1, widths=(24, 24, 8)),
        Case(inner=0, widths=(2, 20, 20)),
        Case(inner=3, activation="gelu_erf"),
        Case(inner=2, activation="silu", residual_in=False, norm="rms", norm_bias=False),
        Case(inner=1, residual_out=False, norm="layer", outer_residual=True),
        BLOCK,
    ],
    ids=str,
)
def test_reference_is_the_definition(case):
    arrays = inputs(case)
    (actual,) = apply(case, arrays, "reference")
    assert_close("reference", actual, formula(case, arrays), 1e-6)


@pytest.mark.parametrize("name", FORMULAS)
def test_kernel_activations_and_slopes(name):
    z = np.concatenate([np.linspace(-12, 12, 4001), [-300.0, -88.0, 0.0, 88.0, 300.0]])
    exact = FORMULAS[name]
    with np.errstate(over="ignore"):
        values, slopes = exact(z), (exact(z + 1e-6) - exact(z - 1e-6)) / 2e-6
    actual_values, actual_slopes = value_and_slope(name, jnp.asarray(np.float32(z)), Products(compiled=False))
    np.testing.assert_allclose(actual_values, values, rtol=1e-6, atol=2e-6)
    np.testing.assert_allclose(actual_slopes, slopes, rtol=1e-6, atol=2e-6)
