"""Splitting models into flat dictionaries of parameters and back."""

import cProfile
import io
import pstats

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flare_jax.layers import Linear
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import apply_fn, count_parameters, merge, split
from tests.flare_jax.models.cases import CASES, build_perturbed, inputs
from tests.numerics import assert_close


class WithList(nnx.Module):
    """More than ten elements, so that list indices have two digits."""

    def __init__(self, rngs):
        self.layers = nnx.List([Linear(2, 2, rngs=rngs) for _ in range(12)])
        self.token = nnx.Param(jnp.ones(2))

    def __call__(self, x, mask=None):
        for layer in self.layers:
            x = jnp.tanh(layer(x))
        return x + self.token[...]


class WithRandomStream(nnx.Module):
    def __init__(self, rngs):
        self.layer = Linear(2, 2, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)


def test_names_are_sorted_dotted_paths_and_in_pytree_order():
    _, params = split(WithList(ParameterKeys(0)))
    assert list(params) == sorted(params)
    assert {"layers.0.kernel", "layers.11.bias", "token"} <= set(params)
    leaves = jax.tree.leaves(params)
    assert all(leaf is value for leaf, value in zip(leaves, params.values(), strict=True))


def test_merge_puts_every_value_in_its_place():
    graphdef, params = split(WithList(ParameterKeys(0)))
    numbered = {name: jnp.full(value.shape, i) for i, (name, value) in enumerate(params.items())}
    again = split(merge(graphdef, dict(reversed(numbered.items()))))
    assert again[0] == graphdef
    for name, value in numbered.items():
        assert_close(name, again[1][name], value, 0.0)


@pytest.mark.parametrize("case", CASES)
def test_models_survive_storage(case):
    """Split, save as a plain archive, load and merge gives the same model."""
    graphdef, params = build_perturbed(case, **CASES[case].small)
    buffer = io.BytesIO()
    np.savez(buffer, **params)
    buffer.seek(0)
    restored = merge(graphdef, {name: jnp.asarray(value) for name, value in np.load(buffer).items()})
    restored_params = split(restored)[1]
    assert list(restored_params) == list(params)
    assert all((np.asarray(restored_params[name]) == np.asarray(value)).all() for name, value in params.items())
    spec = jax.eval_shape(lambda arguments: restored(**arguments), inputs(case))
    assert spec.shape == (2, CASES[case].num_points, CASES[case].out_dim)


def test_apply_fn_is_pure_and_differentiable():
    model = WithList(ParameterKeys(0))
    graphdef, params = split(model)
    apply = jax.jit(apply_fn(graphdef))
    x = jnp.array([[0.3, -0.4]])
    assert_close("call", apply(params, x), model(x), 1e-6)
    doubled = {name: 2 * value for name, value in params.items()}
    assert np.abs(np.asarray(apply(doubled, x) - apply(params, x))).max() > 0.1
    assert_close("call after others", apply(params, x), model(x), 1e-6)
    gradient = jax.grad(lambda p: apply(p, x).sum())(params)
    assert list(gradient) == list(params)
    assert_close("token", gradient["token"], jnp.ones(2), 1e-6)


def test_a_merged_model_shares_no_state_with_its_source():
    model = WithList(ParameterKeys(0))
    graphdef, params = split(model)
    merge(graphdef, params).token[...] = jnp.zeros(2)
    assert_close("token", params["token"], jnp.ones(2), 0.0)
    assert_close("token", model.token[...], jnp.ones(2), 0.0)


def test_abstract_models_split_into_shapes():
    graphdef, template = split(nnx.eval_shape(lambda: WithList(ParameterKeys(0))))
    assert graphdef == split(WithList(ParameterKeys(0)))[0]
    assert isinstance(template["token"], jax.ShapeDtypeStruct)
    assert count_parameters(template) == 12 * (4 + 2) + 2


def test_other_variables_are_an_error():
    with pytest.raises(ValueError, match=r"variables that are not nnx.Param and would be lost: dropout\.rngs"):
        split(WithRandomStream(ParameterKeys(0)))


@pytest.mark.parametrize("seed", [0, 3])
def test_keys_of_parameters_are_those_of_nnx(seed):
    expected, keys = ParameterKeys(seed), ParameterKeys(seed)
    for _ in range(3):
        assert (jax.random.key_data(keys.params()) == jax.random.key_data(expected.params())).all()


def test_shapes_of_deep_models_are_traced_in_a_time_that_grows_with_their_depth():
    """An array as the count of keys cost a search of the program so far for each parameter."""

    def draw(keys, layers):
        return nnx.List([nnx.Param(jax.random.normal(keys.params())) for _ in range(layers)])

    def calls(layers):
        profile = cProfile.Profile()
        profile.runcall(
            nnx.eval_shape,
            lambda: draw(ParameterKeys(0), layers),
        )
        return pstats.Stats(profile).total_calls

    assert calls(200) < 8 * calls(40)
