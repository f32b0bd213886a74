"""FLARE attention as a mixer of its own; the models test the rest of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.mixers import FlareAttention
from flare_jax.mixers.flare_attention import FlareAttentionConfig, resolve_scale
from flare_jax.parameter_keys import ParameterKeys
from tests.numerics import assert_close

SMALL = {"num_heads": 2, "num_latents": 3, "num_layers_k_proj": 0, "num_layers_v_proj": 0}


def points(b=2, n=9, c=8):
    return jax.random.normal(jax.random.key(1), (b, n, c))


def test_latents_are_reshaped_without_transpose():
    att = FlareAttention(8, FlareAttentionConfig(**SMALL), rngs=ParameterKeys(0))
    flat = np.asarray(att.latent_q[...]).ravel()
    expected = [[[flat[(h * 3 + m) * 4 + d] for d in range(4)] for m in range(3)] for h in range(2)]
    assert_close("queries", att.queries(), expected, 0.0)


def test_shared_latents_are_the_same_in_every_head():
    att = FlareAttention(8, FlareAttentionConfig(**SMALL, shared_latents=True), rngs=ParameterKeys(0))
    assert att.latent_q.shape == (4, 3)
    expected = np.broadcast_to(np.asarray(att.latent_q[...]).reshape(1, 3, 4), (2, 3, 4))
    assert_close("queries", att.queries(), expected, 0.0)


@pytest.mark.parametrize(("attn_scale", "expected"), [("one", 1.0), ("sqrt", 0.25), (0.3, 0.3)])
def test_scale(attn_scale, expected):
    assert resolve_scale(attn_scale, 16) == expected


def test_implementations_agree():
    for implementation in ("reference", "xla"):
        named = FlareAttention(8, FlareAttentionConfig(**SMALL, implementation=implementation), rngs=ParameterKeys(0))
        automatic = FlareAttention(8, FlareAttentionConfig(**SMALL), rngs=ParameterKeys(0))
        assert_close(implementation, jax.jit(named)(points()), jax.jit(automatic)(points()), 1e-5)


def test_latent_blocks_that_do_nothing_leave_the_mixing_unchanged():
    """The path through latent blocks gathers and scatters like the kernel: zero weights make a block the identity."""
    plain = FlareAttention(8, FlareAttentionConfig(**SMALL, attn_scale=0.7), rngs=ParameterKeys(0))
    deep = FlareAttention(8, FlareAttentionConfig(**SMALL, attn_scale=0.7, num_latent_blocks=2), rngs=ParameterKeys(0))
    for name in ("latent_q", "k_proj", "v_proj", "out_proj"):
        setattr(deep, name, getattr(plain, name))
    for block in deep.latent_blocks:
        block.att.out_proj.kernel[...] = jnp.zeros((8, 8))
        block.mlp.fc2.kernel[...] = jnp.zeros((32, 8))
    x = 20 * points()
    mask = jnp.arange(9)[None] < jnp.array([[9], [5]])
    assert_close("no mask", jax.jit(deep)(x), jax.jit(plain)(x), 1e-5)
    assert_close("mask", jax.jit(deep)(x, mask), jax.jit(plain)(x, mask), 1e-5)


def test_scores_are_scaled_logits():
    att = FlareAttention(8, FlareAttentionConfig(**SMALL, attn_scale="sqrt"), rngs=ParameterKeys(0))
    q, k = (
        np.asarray(value, np.float64)
        for value in (att.queries(), att.k_proj(points()).reshape(*points().shape[:2], -1, 4))
    )
    expected = np.einsum("hmd,bnhd->bhmn", q, k) / 2
    assert_close("scores", att.scores(points()), expected, 1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 3}, "num_heads 3 does not divide channel_dim 8; choose num_heads among 1, 2, 4, 8"),
        ({"num_latents": 0}, "num_latents is 0 but must be an integer of at least 1"),
        ({"attn_scale": "root"}, "attn_scale is 'root' .* one of 'one', 'sqrt'"),
        ({"attn_scale": -1.0}, "attn_scale is -1.0 but must be .* a positive number"),
        ({"num_layers_k_proj": -2}, "num_layers_k_proj is -2"),
        ({"num_layers_v_proj": -5}, "num_layers_v_proj is -5"),
        ({"k_proj_mlp_ratio": 0.1}, "k_proj_mlp_ratio 0.1 makes a hidden width below 1"),
        ({"v_proj_mlp_ratio": 0.0}, "v_proj_mlp_ratio is 0.0 but must be a positive number"),
        ({"num_latent_blocks": -1}, "num_latent_blocks is -1"),
        ({"num_latent_blocks": 1, "shared_latents": True}, "num_latent_blocks is 1 but shared_latents needs 0"),
        ({"num_latent_blocks": 2, "implementation": "xla"}, "implementation 'xla' has no latent blocks"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        FlareAttention(8, FlareAttentionConfig(**SMALL | options), rngs=ParameterKeys(0))


def test_unknown_implementation_is_an_error_while_tracing():
    att = FlareAttention(8, FlareAttentionConfig(**SMALL, implementation="fastest"), rngs=ParameterKeys(0))
    with pytest.raises(ValueError, match="fastest"):
        jax.eval_shape(att, points())


def test_scores_of_latent_blocks_are_an_error():
    att = FlareAttention(8, FlareAttentionConfig(**SMALL, num_latent_blocks=1), rngs=ParameterKeys(0))
    with pytest.raises(ValueError, match="num_latent_blocks is 1; analyse a model with num_latent_blocks=0"):
        att.scores(points())
