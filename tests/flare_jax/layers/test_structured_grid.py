"""Grid convolutions and position features against loops over the grid, and their errors."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.layers import GridConvolution, check_grid_shape, unified_position_dim, unified_positions
from flare_jax.layers.structured_grid import check_no_mask
from flare_jax.layers.unified_position import check_unified_position
from flare_jax.parameter_keys import ParameterKeys
from tests.numerics import assert_close

SHAPES = [(5,), (3, 4), (2, 1, 3)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_convolution_is_a_cross_correlation_with_zeros_outside(shape):
    layer = GridConvolution(2, 3, grid_shape=shape, rngs=ParameterKeys(0))
    x = jax.random.normal(jax.random.key(1), (2, math.prod(shape), 2))
    kernel, bias = (np.asarray(p[...], np.float64) for p in (layer.kernel, layer.bias))
    places = list(itertools.product(*map(range, shape)))
    expected = np.zeros((2, len(places), 3)) + bias
    for n, place in enumerate(places):
        for offset in itertools.product((-1, 0, 1), repeat=len(shape)):
            neighbour = tuple(np.add(place, offset))
            if neighbour in places:
                expected[:, n] += np.asarray(x)[:, places.index(neighbour)] @ kernel[tuple(np.add(offset, 1))]
    assert_close("y", layer(x), expected, 1e-5)
    assert layer(x.astype(jnp.bfloat16)).dtype == jnp.float32


def test_convolution_starts_as_in_pytorch():
    layer = GridConvolution(16, 32, grid_shape=(2, 2), rngs=ParameterKeys(0))
    assert layer.kernel.shape == (3, 3, 16, 32)
    for values in (np.asarray(layer.kernel[...]), np.asarray(layer.bias[...])):
        assert np.abs(values).max() <= 1 / 12
        assert abs(values.std() * 12 * np.sqrt(3) - 1) < 0.3
    assert GridConvolution(2, 3, grid_shape=(2, 2), dtype="bfloat16", rngs=ParameterKeys(0))(
        jnp.ones((1, 4, 2))
    ).dtype == (jnp.bfloat16)


@pytest.mark.parametrize(("shape", "reference"), [((5,), 3), ((3, 4), 2), ((2, 1, 3), 2), ((2, 2), 1)], ids=str)
def test_unified_positions_are_distances(shape, reference):
    grid = itertools.product(*(np.linspace(0, 1, size) for size in shape))
    coarse = list(itertools.product(np.linspace(0, 1, reference), repeat=len(shape)))
    expected = [[math.dist(point, other) for other in coarse] for point in grid]
    features = unified_positions(shape, reference)
    assert features.shape == (math.prod(shape), unified_position_dim(shape, reference))
    assert features.dtype == jnp.float32
    assert_close("features", features, expected, 1e-6)


@pytest.mark.parametrize("shape", [(), (2, 2, 2, 2), 5, "85x85", (3, -1), (3, 2.0), None])
def test_bad_grid_shapes(shape):
    with pytest.raises(ValueError, match=r"grid_shape.* is .* but must be"):
        check_grid_shape(shape)


def test_grids_given_as_lists_become_tuples():
    assert check_grid_shape([3, 4]) == (3, 4)


def test_bad_calls():
    layer = GridConvolution(2, 3, grid_shape=(3, 4), rngs=ParameterKeys(0))
    with pytest.raises(
        ValueError, match=r"x has 11 points but grid_shape \(3, 4\) has 12; pass all points of the grid"
    ):
        jax.eval_shape(layer, jnp.ones((1, 11, 2)))
    with pytest.raises(ValueError, match="ref is 0 but must be an integer of at least 1"):
        unified_positions((3, 4), 0)
    with pytest.raises(ValueError, match=r"mask has shape \(2, 12\) but a model on a structured grid uses all its"):
        check_no_mask(jnp.ones((2, 12), bool))
    with pytest.raises(ValueError, match="unified_pos is True but grid_shape is None"):
        check_unified_position(True, None)
    check_no_mask(None)
    check_unified_position(True, (3, 4))
