"""Padded points become zero, whatever they hold."""

import jax.numpy as jnp
import numpy as np

from flare_jax.layers.padding import zero_padding


def test_padding_becomes_zero():
    x = jnp.array([[[1.0, -2.0], [jnp.nan, 3.0], [jnp.inf, 4.0]]])
    padded = zero_padding(x, jnp.array([[True, False, False]]))
    assert (np.asarray(padded) == [[[1, -2], [0, 0], [0, 0]]]).all()


def test_without_mask_nothing_changes():
    x = jnp.full((1, 2, 3), jnp.nan)
    assert zero_padding(x, None) is x
