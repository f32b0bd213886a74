"""Initial parameters: those that JAX draws for every shape by itself, from few programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.layers.initializers import draw_uniform, filled, normal, uniform

# Around the numbers that are drawn together, and beyond the most of them.
SHAPES = [(), (1,), (3, 5), (1024,), (5, 205), (2, 3, 171), (4096, 1), (65537,)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_numbers_are_those_of_the_shape_alone(shape):
    key = jax.random.key(7)
    np.testing.assert_array_equal(normal(0.02)(key, shape), 0.02 * jax.random.normal(key, shape))
    np.testing.assert_array_equal(uniform(0.3)(key, shape), jax.random.uniform(key, shape, jnp.float32, -0.3, 0.3))


def test_numbers_are_the_same_where_the_model_is_traced():
    key = jax.random.key(3)
    traced = jax.jit(lambda key: (normal(1.0)(key, (5, 7)), draw_uniform(key, (9,), 0.0, 0.5), filled((2, 3), 4.0)))
    for actual, expected in zip(
        traced(key), (normal(1.0)(key, (5, 7)), draw_uniform(key, (9,), 0.0, 0.5), filled((2, 3), 4.0)), strict=True
    ):
        assert actual.dtype == jnp.float32
        np.testing.assert_array_equal(actual, expected)


def test_arrays_of_several_shapes_share_a_program():
    key, compiled = jax.random.key(0), []
    normal(0.5)(key, (13, 17))
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if event.endswith("backend_compile_duration") else None
    )
    for shape in ((13, 19), (7,), (2, 3, 11)):
        normal(0.5)(key, shape)
        filled(shape, 1.5)
    assert not compiled
    normal(0.5)(key, (2**16 + 3,))  # more than are drawn together, so that no other test has compiled it
    assert compiled
