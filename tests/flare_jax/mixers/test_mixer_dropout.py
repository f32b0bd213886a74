"""Dropout inside of the mixers: where it acts, that its mean is right, and that a vanishing rate changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.layers.rotary import RotaryEmbedding
from flare_jax.mixers import FlareAttention, LinformerAttention, PerformerAttention, SelfAttention, softmax_attention
from flare_jax.mixers.flare_attention import FlareAttentionConfig
from flare_jax.mixers.linformer import LinformerConfig
from flare_jax.mixers.performer import PerformerConfig
from flare_jax.mixers.self_attention import SelfAttentionConfig
from flare_jax.parameter_keys import ParameterKeys
from tests.numerics import assert_close, rms_ratio

X = jax.random.normal(jax.random.key(0), (2, 9, 8))
MASK = jnp.arange(9)[None, :] < jnp.array([[6], [9]])
KEY = jax.random.key(1)
MIXERS = {
    "transformer": lambda rope=None, **o: SelfAttention(
        8, SelfAttentionConfig(num_heads=2, **o), rope=rope, rngs=ParameterKeys(0)
    ),
    "linformer": lambda rope=None, **o: LinformerAttention(
        8, LinformerConfig(seq_len=9, k=5, num_heads=2, **o), rope=rope, rngs=ParameterKeys(0)
    ),
    "flare": lambda rope=None, **o: FlareAttention(
        8, FlareAttentionConfig(num_heads=2, num_latents=5, **o), rope=rope, rngs=ParameterKeys(0)
    ),
    "performer": lambda rope=None, **o: PerformerAttention(
        8, PerformerConfig(num_heads=2, nb_features=6, **o), rope=rope, rngs=ParameterKeys(0)
    ),
}

every_mixer = pytest.mark.parametrize("name", MIXERS)


@every_mixer
@pytest.mark.parametrize("option", ["attn_drop", "proj_drop"])
def test_a_vanishing_rate_changes_nothing(name, option):
    """For FLARE this compares the path that stores its weights with the kernel, mask and positions included."""
    build = MIXERS[name]
    with_key = jax.jit(build(**{option: 1e-9}, rope=RotaryEmbedding(9)))
    without = jax.jit(build(rope=RotaryEmbedding(9)))
    assert_close(name, with_key(X, MASK, KEY)[np.asarray(MASK)], without(X, MASK)[np.asarray(MASK)], 1e-5)


@every_mixer
def test_dropping_the_output_acts_after_the_output_projection(name):
    mixer = MIXERS[name](proj_drop=0.5)
    y, dropped = map(np.asarray, jax.jit(lambda x: (mixer(x), mixer(x, None, KEY)))(X))
    kept = dropped != 0
    assert 0.3 < kept.mean() < 0.7
    assert_close("kept", dropped[kept], 2 * y[kept], 1e-6)


@every_mixer
def test_dropping_attention_acts_before_the_output_projection(name):
    mixer = MIXERS[name](attn_drop=0.5)
    y, dropped = map(np.asarray, jax.jit(lambda x: (mixer(x), mixer(x, None, KEY)))(X))
    assert dropped.all()
    assert rms_ratio(dropped, y) > 1e-2


def test_dropped_softmax_weights_have_the_right_mean():
    q, k, v = (jax.random.normal(key, (1, 4, 1, 3)) for key in jax.random.split(KEY, 3))

    def sample(key):
        return softmax_attention(q, k, v, scale=0.5, drop_rate=0.4, key=key)

    mean = jax.jit(jax.vmap(sample))(jax.random.split(jax.random.key(2), 4000)).mean(0)
    exact = jax.jit(lambda *x: softmax_attention(*x, scale=0.5))(q, k, v)
    assert_close("mean", mean, exact, 6e-2)
