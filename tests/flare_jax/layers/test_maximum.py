"""The maximum whose gradient survives recomputation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.layers.maximum import maximum

X = jax.random.normal(jax.random.key(0), (2, 5, 3))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_it_is_the_maximum_with_its_gradient(axis):
    value, gradient = jax.value_and_grad(lambda x: jnp.sum(jnp.sin(maximum(x, axis))))(X)
    expected, expected_gradient = jax.value_and_grad(lambda x: jnp.sum(jnp.sin(x.max(axis))))(X)
    assert maximum(X, axis).shape == X.max(axis, keepdims=True).shape
    assert value == expected
    assert (np.asarray(gradient) == np.asarray(expected_gradient)).all()


def test_one_of_equal_entries_has_the_gradient():
    assert jax.grad(lambda x: maximum(x, 0)[0])(jnp.array([1.0, 2.0, 2.0])).tolist() == [0, 1, 0]


def test_infinite_entries():
    x = jnp.array([[-jnp.inf, 3.0], [-jnp.inf, -jnp.inf]])
    assert maximum(x, 1)[:, 0].tolist() == [3.0, -np.inf]


def test_the_gradient_is_finite_where_the_argument_is_recomputed():
    weights = jax.random.normal(jax.random.key(1), (3, 400))

    def total(x):
        exponents = jnp.exp(jnp.sin(x @ weights)) - jnp.square(x).sum(-1, keepdims=True) / 2
        return jnp.sum(jnp.exp(exponents - maximum(exponents, -1)))

    gradient = jax.jit(jax.grad(jax.checkpoint(total)))(X)
    assert np.isfinite(np.asarray(gradient)).all()
    assert np.abs(np.asarray(gradient)).max() > 0
