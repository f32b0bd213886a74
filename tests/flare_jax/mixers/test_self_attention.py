"""Softmax attention, masks and the transformer block."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.mixers import SelfAttention, SelfAttentionBlock, softmax_attention
from flare_jax.mixers.self_attention import SelfAttentionConfig
from flare_jax.parameter_keys import ParameterKeys
from tests.numerics import assert_close


def random_qkv(b=2, m=3, n=7, h=2, d=4, seed=0):
    keys = jax.random.split(jax.random.key(seed), 3)
    return [jax.random.normal(key, (b, length, h, d)) for key, length in zip(keys, (m, n, n), strict=True)]


def numpy_attention(q, k, v, scale):
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    logits = scale * np.einsum("bmhd,bnhd->bhmn", q, k)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return np.einsum("bhmn,bnhd->bmhd", weights / weights.sum(-1, keepdims=True), v)


@pytest.mark.parametrize("amplitude", [1.0, 500.0])
def test_attention_formula(amplitude):
    q, k, v = random_qkv()
    assert_close(
        "attention", softmax_attention(amplitude * q, k, v, scale=0.7), numpy_attention(amplitude * q, k, v, 0.7), 2e-5
    )


def test_masked_keys_have_no_influence_even_as_nan():
    q, k, v = random_qkv()
    mask = jnp.array([[True] * 5 + [False] * 2] * 2)
    k, v = k.at[:, 5:].set(jnp.nan), v.at[:, 5:].set(jnp.inf)

    def total(q, k, v, mask):
        return jnp.sum(softmax_attention(q, k, v, scale=0.7, mask=mask) ** 2)

    gradients = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2)))
    result = gradients(q, k, v, mask)
    expected = gradients(q, k[:, :5], v[:, :5], None)
    assert_close("value", result[0], expected[0], 1e-6)
    assert_close("dq", result[1][0], expected[1][0], 1e-5)
    for padded, plain in zip(result[1][1:], expected[1][1:], strict=True):
        assert_close("real keys", padded[:, :5], plain, 1e-5)
        assert not np.asarray(padded[:, 5:]).any()


def test_without_real_keys_the_result_is_zero():
    q, k, v = random_qkv()
    mask = jnp.array([[False] * 7, [True] * 7])
    y, vjp = jax.vjp(lambda q: softmax_attention(q, k, v, scale=1.0, mask=mask), q)
    assert not np.asarray(y[0]).any()
    assert np.isfinite(np.asarray(vjp(jnp.ones_like(y))[0])).all()
    assert_close("other sample", y[1:], softmax_attention(q[1:], k[1:], v[1:], scale=1.0), 1e-6)


def test_self_attention_layout():
    """q, k, v are consecutive blocks of C columns, the heads inside; the scale is 1/√D."""
    att = SelfAttention(8, SelfAttentionConfig(num_heads=2), rngs=ParameterKeys(0))
    att.qkv_proj.bias[...] = 0.1 * jnp.arange(24.0)
    att.qkv_proj.kernel[...] = 20 * att.qkv_proj.kernel[...]
    x = jax.random.normal(jax.random.key(1), (2, 5, 8))
    qkv = np.asarray(x, np.float64) @ np.asarray(att.qkv_proj.kernel[...]) + np.asarray(att.qkv_proj.bias[...])
    q, k, v = (part.reshape(2, 5, 2, 4) for part in np.split(qkv, 3, axis=-1))
    y = numpy_attention(q, k, v, 0.5).reshape(2, 5, 8) @ np.asarray(att.out_proj.kernel[...])
    assert_close("self attention", att(x), y, 2e-6)


def test_padded_points_receive_the_output_bias():
    att = SelfAttention(8, SelfAttentionConfig(num_heads=2), rngs=ParameterKeys(0))
    att.out_proj.bias[...] = jnp.arange(8.0)
    x = jax.random.normal(jax.random.key(1), (1, 5, 8))
    mask = jnp.array([[True, True, True, False, False]])
    y = att(x, mask)
    assert_close("real points", y[:, :3], att(x[:, :3]), 1e-6)
    assert_close("padding", y[:, 3:], jnp.broadcast_to(jnp.arange(8.0), (1, 2, 8)), 1e-7)


def test_default_heads_are_16_wide():
    assert SelfAttention(48, SelfAttentionConfig(), rngs=ParameterKeys(0)).num_heads == 3


def test_block_is_pre_norm_and_residual():
    block = SelfAttentionBlock(8, SelfAttentionConfig(num_heads=2, mlp_ratio=2.0), rngs=ParameterKeys(0))
    x = jax.random.normal(jax.random.key(1), (2, 5, 8))
    middle = x + block.att(block.norm1(x))
    assert_close("block", block(x), middle + block.mlp(block.norm2(middle)), 1e-7)


def test_bad_heads():
    with pytest.raises(
        ValueError, match="num_heads 3 does not divide channel_dim 8; choose num_heads among 1, 2, 4, 8"
    ):
        SelfAttention(8, SelfAttentionConfig(num_heads=3), rngs=ParameterKeys(0))
