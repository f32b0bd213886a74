"""Feature maps: the formulas the recorded results do not reach, initial values, safe gradients and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flare_jax.layers.feature_maps import FEATURE_MAPS, FIXED_MAPS, LEARNABLE_MAPS, make_feature_map, safe_norm, unit
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import apply_fn, split
from tests.flare_jax.models import naive_attention
from tests.numerics import assert_close

X = jax.random.normal(jax.random.key(0), (2, 5, 3, 6))


def make(kernel, **options):
    return make_feature_map(kernel, 6, rngs=ParameterKeys(1), **options)


@pytest.mark.parametrize("kernel", FEATURE_MAPS)
def test_formula(kernel):
    built, state = make(kernel, qk_dim_ratio=0.7), {}
    if isinstance(built, nnx.Module):
        graphdef, params = split(built)
        draw = np.random.default_rng(1).standard_normal
        params = {name: jnp.asarray(np.float32(0.5 * draw(p.shape))) for name, p in params.items()}
        built = lambda x: apply_fn(graphdef)(params, x)  # noqa: E731
        state = {f"map.{name.replace('kernel', 'weight')}": np.asarray(p, np.float64).T for name, p in params.items()}
    assert_close(
        kernel,
        jax.jit(lambda x: built(x))(X),
        naive_attention.feature_map(state, "map", kernel, np.asarray(X, np.float64)),
        1e-5,
    )


@pytest.mark.parametrize(("kernel", "width"), [("swiglu", 4), ("hadamard", 4), ("hedgehog", 12), ("outer", 10)])
def test_widths_of_learnable_maps(kernel, width):
    """int(6 · 0.7) = 4 features, of which `outer` makes 4·5/2; `hedgehog` has twice the head width."""
    assert jax.eval_shape(make(kernel, qk_dim_ratio=0.7), X).shape == (2, 5, 3, width)


def test_hedgehog_starts_as_the_softmax_of_the_input():
    expected = jax.nn.softmax(jnp.concatenate((2 * X, -2 * X), axis=-1), axis=-1)
    assert_close("hedgehog", make("hedgehog")(X), expected, 1e-6)


def test_taylor_features_expand_the_exponential():
    x, y = 0.2 * X[0, 0], 0.2 * X[1, 1]
    product = jnp.sum(x * y, -1) / 6**0.5
    assert_close(
        "dot", jnp.sum(FIXED_MAPS["taylor"](x) * FIXED_MAPS["taylor"](y), -1), 1 + product + product**2 / 2, 1e-6
    )


@pytest.mark.parametrize("kernel", FIXED_MAPS)
def test_gradients_stay_finite_at_zero_and_far_out(kernel):
    x = jnp.array([[0.0] * 6, [1e4] * 6, [-1e4] * 6, [1e-30] * 6])

    @jax.jit
    def evaluate(x):
        y, pull_back = jax.vjp(FIXED_MAPS[kernel], x)
        return y, pull_back(jnp.ones_like(y))[0]

    for found in evaluate(x):
        assert np.isfinite(np.asarray(found)).all()


def test_one_sided_derivatives_are_those_of_pytorch():
    """At 0 the derivative of elu is 1, and beyond its clamp that of exp is 0."""
    slope = jax.grad(lambda x: FIXED_MAPS["elu"](x))
    assert (float(slope(0.0)), float(slope(2.0))) == (1.0, 1.0)
    assert float(jax.grad(FIXED_MAPS["exp"])(31.0)) == 0.0


def test_unit_vectors():
    lengths = np.linalg.norm(np.asarray(unit(X)), axis=-1)
    assert_close("length", lengths, np.ones_like(lengths), 1e-5)

    @jax.jit
    def at_zero(zero):
        gradients = (jax.grad(lambda x: jnp.sum(unit(x)[:, 0])), jax.grad(lambda x: jnp.sum(safe_norm(x))))
        return unit(zero), *(gradient(zero) for gradient in gradients)

    zero, slope, flat = map(np.asarray, at_zero(np.zeros((2, 6), np.float32)))
    assert not zero.any()
    assert np.isfinite(slope).all()
    assert not flat.any()
    half = unit(X.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    assert_close("bfloat16", half, unit(X), 2e-2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"kernel": "softsine"},
            "kernel is 'softsine' .did you mean 'softsign'.. but must be one of 'identity', 'relu'",
        ),
        (
            {"kernel": "swiglu", "qk_dim_ratio": 0.1},
            "qk_dim_ratio 0.1 leaves no feature of a head of width 6; increase",
        ),
        ({"kernel": "elu", "qk_dim_ratio": -1.0}, "qk_dim_ratio is -1.0 but must be a positive number"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_all_maps_of_the_specification_are_there():
    assert set(FIXED_MAPS) | set(LEARNABLE_MAPS) == set(FEATURE_MAPS)
    assert len(FEATURE_MAPS) == 19
