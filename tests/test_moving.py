"""Data that are moved by NumPy in the tests arrive as JAX moves them."""

from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

MOVES = {
    "broadcast": lambda x: lax.broadcast_in_dim(x, (4, 2, 3), (1, 2)),
    "scalar": lambda x: lax.broadcast_in_dim(x[0, 0], (2, 2), ()),
    "zeros": lambda x: jnp.zeros((3, 2), x.dtype),
    "integers": lambda x: lax.convert_element_type(jnp.arange(4), jnp.float32),
    "wider": lambda x: x.astype(jnp.bfloat16).astype(jnp.float32),
    "reshape": lambda x: x.reshape(3, 2),
    "squeeze": lambda x: lax.squeeze(x[:1], (0,)),
    "transpose": lambda x: x.T,
    "concatenate": lambda x: lax.concatenate([x, x[:, :1]], 1),
    "strides": lambda x: lax.slice(x, (0, 0), (2, 3), (1, 2)),
    "beyond the end": lambda x: lax.dynamic_slice(x, (1, 2), (2, 2)),
    "negative index": lambda x: x[-1, -2:],
}


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_outside_of_jit_and_inside(move):
    x = jax.device_put(np.arange(6, dtype=np.float32).reshape(2, 3))
    actual, expected = move(x), jax.jit(move)(x)
    assert isinstance(actual, jax.Array)
    assert (actual.dtype, actual.weak_type, actual.committed) == (expected.dtype, expected.weak_type, False)
    np.testing.assert_array_equal(actual, expected)


def test_what_is_weakly_typed_or_placed_is_left_to_jax():
    assert jnp.broadcast_to(jnp.asarray(2.0), (3,)).weak_type == jax.jit(lambda: jnp.full(3, 2.0))().weak_type
    placed = jax.device_put(np.ones((2, 3), np.float32), jax.devices()[0])
    assert placed.T.committed
    assert jnp.broadcast_to(jax.random.key(0), (3,)).dtype == jax.random.key(0).dtype


def test_numbers_of_64_bits_stay_so_outside_of_their_context():
    with jax.enable_x64(True):
        x = jnp.asarray([1.0 + 2.0**-40, 2.0])
    for moved in (x[0], x[:1], x.reshape(2, 1), jnp.concatenate([x, x])):
        assert moved.dtype == jnp.float64
        assert np.asarray(moved).ravel()[0] == 1.0 + 2.0**-40


@pytest.mark.skipif(not version("jax").startswith("0.10."), reason="another version is left as it is")
def test_no_program_is_compiled():
    x, compiled = jax.device_put(np.ones((5, 7), np.float32)), []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if event.endswith("backend_compile_duration") else None
    )
    jnp.zeros((11, 13)), x[2, 1:6].reshape(5, 1), jnp.concatenate([x, x]).T
    assert not compiled
    x * np.float32(1.5)
    assert compiled
