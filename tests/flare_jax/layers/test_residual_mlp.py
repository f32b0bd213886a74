"""ResidualMLP against a plain numpy version, for every number of layers and residual flag."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.layers import FeedForward, LayerNorm, Linear, ResidualMLP, RMSNorm, apply_branches
from flare_jax.layers.activations import FEED_FORWARD_ACTIVATIONS
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import count_parameters, split
from tests.numerics import assert_close


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def gelu_erf(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / np.sqrt(2)))


def silu(x):
    return x / (1 + np.exp(-x))


def numpy_mlp(mlp, x, num_layers, act, input_residual, output_residual):
    """Evaluate the definition (input layer, inner residual layers, output layer) in float64."""

    def layer(module, x):
        return x @ np.asarray(module.kernel[...], np.float64) + np.asarray(module.bias[...], np.float64)

    x = np.asarray(x, np.float64)
    if num_layers == -1:
        y = layer(mlp.fc, x)
        return x + y if input_residual and output_residual and x.shape == y.shape else y
    u = act(layer(mlp.fc1, x))
    u = x + u if input_residual and x.shape == u.shape else u
    for j in range(num_layers):
        u = u + act(layer(mlp.fcs[j], u))
    y = layer(mlp.fc2, u)
    return u + y if output_residual and u.shape == y.shape else y


def perturbed(mlp):
    """Scale up the weights, so that activations leave their linear range."""
    generator = np.random.default_rng(0)
    for layer in mlp.layers:
        layer.kernel[...] = jnp.asarray(25 * np.asarray(layer.kernel[...]))
        layer.bias[...] = jnp.asarray(np.float32(0.3 * generator.standard_normal(layer.bias.shape)))
    return mlp


@pytest.mark.parametrize("num_layers", [-1, 0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("widths", [(6, 6, 6), (3, 6, 6), (6, 6, 2), (6, 9, 6)], ids=str)
def test_formula(num_layers, widths):
    x = jnp.asarray(np.float32(np.random.default_rng(9).standard_normal((2, 4, widths[0]))))
    choices = [(True, True), (False, True), (True, False), (False, False)]
    mlps = [
        perturbed(
            ResidualMLP(*widths, num_layers=num_layers, input_residual=i, output_residual=o, rngs=ParameterKeys(0))
        )
        for i, o in choices
    ]
    results = jax.jit(lambda x: [mlp(x) for mlp in mlps])(x)
    for flags, mlp, y in zip(choices, mlps, results, strict=True):
        assert len(mlp.layers) == (1 if num_layers == -1 else num_layers + 2)
        assert_close(str(flags), y, numpy_mlp(mlp, x, num_layers, gelu_tanh, *flags), 2e-6)


@pytest.mark.parametrize(("act", "formula"), [(None, gelu_tanh), ("gelu", gelu_tanh), ("silu", silu)])
def test_activation_names(act, formula):
    x = np.linspace(-5, 5, 101)[:, None]
    mlp = ResidualMLP(
        1, 1, 1, num_layers=0, act=act, input_residual=False, output_residual=False, rngs=ParameterKeys(0)
    )
    for layer in mlp.layers:
        layer.kernel[...] = jnp.ones((1, 1))
    assert_close("residual mlp", mlp(jnp.asarray(x, jnp.float32)), formula(x), 1e-6)


@pytest.mark.parametrize(("act", "formula"), [(None, gelu_erf), ("gelu", gelu_erf), ("silu", silu)])
def test_feed_forward_activation_names(act, formula):
    x = jnp.linspace(-5, 5, 101)
    # A swap of the two GELUs has an error of 1e-4 on this scale.
    assert_close("feed forward", FEED_FORWARD_ACTIVATIONS[act](x), formula(np.linspace(-5, 5, 101)), 1e-6)


def test_feed_forward_width():
    _, params = split(FeedForward(8, mlp_ratio=2.5, rngs=ParameterKeys(0)))
    assert params["fc1.kernel"].shape == (8, 20)
    assert count_parameters(params) == 8 * 20 + 20 + 20 * 8 + 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": -2}, "num_layers is -2"),
        ({"num_layers": 1, "act": "gleu"}, "act is 'gleu' .did you mean 'gelu'"),
        ({"num_layers": 1, "dtype": jnp.int32}, "dtype is .* must be one of float32, bfloat16"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        ResidualMLP(4, 4, 4, **options, rngs=ParameterKeys(0))


def test_bad_width():
    with pytest.raises(ValueError, match="out_dim is 0"):
        Linear(4, 0, rngs=ParameterKeys(0))


def test_compute_dtype():
    mlp = ResidualMLP(4, 4, 4, num_layers=1, dtype=jnp.bfloat16, rngs=ParameterKeys(0))
    assert mlp(jnp.ones((2, 4))).dtype == jnp.bfloat16
    assert {value.dtype for value in split(mlp)[1].values()} == {jnp.dtype("float32")}


@pytest.mark.parametrize("flags", [(True, True), (False, True), (True, False)], ids=str)
def test_a_single_layer_is_residual_only_with_both_flags(flags):
    mlp = ResidualMLP(2, 5, 2, num_layers=-1, input_residual=flags[0], output_residual=flags[1], rngs=ParameterKeys(0))
    mlp.fc.kernel[...] = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    mlp.fc.bias[...] = jnp.array([0.5, 0.0])
    assert_close(str(flags), mlp(jnp.ones((1, 2))), [[5.5, 7.0]] if all(flags) else [[4.5, 6.0]], 1e-6)


def test_branches_share_one_normalised_input():
    norm = LayerNorm(4)
    mlps = [
        ResidualMLP(4, width, 4, num_layers=layers, rngs=ParameterKeys(layers)) for width, layers in ((4, 1), (6, 0))
    ]
    x = jax.random.normal(jax.random.key(0), (3, 5, 4))
    for mlp, y in zip(mlps, apply_branches(mlps, x, norm), strict=True):
        assert_close("branch", y, mlp(norm(x)), 1e-6)


def test_projection_norm_and_outer_residual_are_the_second_half_of_a_block():
    mlp, norm, projection = (
        ResidualMLP(4, 4, 4, num_layers=1, rngs=ParameterKeys(0)),
        RMSNorm(4),
        Linear(6, 4, rngs=ParameterKeys(1)),
    )
    x = jax.random.normal(jax.random.key(0), (3, 6))
    skip = jax.random.normal(jax.random.key(1), (3, 4))
    stream = skip + projection(x)
    y = mlp(x, projection=projection, skip=skip, norm=norm, outer_residual=True)
    assert_close("block", y, stream + mlp(norm(stream)), 1e-6)
