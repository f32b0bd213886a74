"""Rotary embeddings: the correct mode is a rotation that depends on distances only, the reference mode is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.layers.rotary import RotaryEmbedding
from tests.flare_jax.models.naive_attention import rotate
from tests.numerics import assert_close, rms_ratio

X = jax.random.normal(jax.random.key(0), (2, 9, 3, 6))


@pytest.mark.parametrize("mode", ["reference", "interleaved"])
def test_formula(mode):
    expected = rotate(np.asarray(X, np.float64).swapaxes(1, 2), mode).swapaxes(1, 2)
    assert_close(mode, RotaryEmbedding(9, mode)(X), expected, 1e-6)


def norms_and_products(mode):
    """Return how much norms change, and how much products of equal vectors change between equal distances."""
    constant = jnp.broadcast_to(X[:, :1], X.shape)
    turned = RotaryEmbedding(20, mode)(constant)
    norms = rms_ratio(jnp.linalg.norm(turned, axis=-1), jnp.linalg.norm(constant, axis=-1))
    products = jnp.sum(turned[:, :-2] * turned[:, 2:], -1)
    return norms, rms_ratio(products, jnp.broadcast_to(products[:, :1], products.shape))


def test_the_interleaved_mode_is_a_rotation():
    assert max(norms_and_products("interleaved")) < 1e-5


def test_the_reference_mode_is_none():
    assert min(norms_and_products("reference")) > 1e-2


def test_both_modes_agree_for_heads_of_width_two():
    narrow = X[..., :2]
    assert_close("width 2", RotaryEmbedding(9)(narrow), RotaryEmbedding(9, "reference")(narrow), 1e-7)


def test_the_first_position_stays_and_the_dtype_too():
    y = RotaryEmbedding(9)(X.astype(jnp.bfloat16))
    assert y.dtype == jnp.bfloat16
    assert (np.asarray(y[:, 0]) == np.asarray(X[:, 0].astype(jnp.bfloat16))).all()


def test_angles_of_far_positions_are_exact():
    """Float32 products of positions and frequencies would be wrong by 1e-3 there."""
    x = jnp.ones((1, 16384, 1, 4))
    expected = rotate(np.ones((1, 1, 16384, 4)), "interleaved").swapaxes(1, 2)
    assert_close("far", RotaryEmbedding(16384, "interleaved")(x)[:, -100:], expected[:, -100:], 1e-6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RotaryEmbedding(9, "half"), "rope_mode is 'half'.*but must be one of 'reference', 'interleaved'"),
        (lambda: RotaryEmbedding(0), "max_length is 0 but must be an integer of at least 1"),
        (lambda: RotaryEmbedding(8)(X), "the sequence has 9 tokens but the rotary embedding was built for 8; shorten"),
        (lambda: RotaryEmbedding(9)(X[..., :5]), "the head width is 5 but rotary embeddings need an even one"),
    ],
)
def test_errors(build, message):
    with pytest.raises(ValueError, match=message):
        build()
