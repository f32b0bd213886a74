"""Linformer, linear attention, LinearNO and Performer: what holds for these mixers beyond the formulas of a block."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.mixers import linear_attention, softmax_attention
from flare_jax.mixers.linear_no import LinearNOAttention, LinearNOConfig
from flare_jax.mixers.linformer import LinformerAttention, LinformerConfig
from flare_jax.mixers.performer import PerformerAttention, PerformerConfig, redraw_features
from flare_jax.models.sequence import build_sequence_model
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import split
from tests.numerics import assert_close, rms_ratio

X = jax.random.normal(jax.random.key(0), (2, 9, 8))
MASK = jnp.arange(9)[None, :] < jnp.array([[6], [9]])


def test_linear_attention_of_constant_values_returns_them():
    q, k = (np.abs(x).reshape(2, 9, 2, 4) for x in (np.asarray(X), np.asarray(X)[:, ::-1]))
    v = np.broadcast_to(np.arange(3, dtype=np.float32), (2, 9, 2, 3))
    attend = jax.jit(linear_attention)
    assert_close("values", attend(q, k, v), v, 1e-6)
    masked = np.where(np.asarray(MASK)[..., None, None], v, np.float32(7))
    assert_close("with a mask", attend(q, k, masked, MASK), v, 1e-6)


def test_masked_keys_and_values_have_no_influence_even_as_nan():
    q, k, v = (jnp.asarray(np.asarray(X).reshape(2, 9, 2, 4) ** 2 + np.float32(shift)) for shift in (0.0, 0.1, 0.2))
    bad = np.where(np.asarray(MASK)[..., None, None], np.float32(0), np.float32(np.nan))

    def total(k, v):
        return jnp.sum(linear_attention(q, k, v, MASK) ** 2)

    differentiate = jax.jit(jax.value_and_grad(total, argnums=(0, 1)))
    value, gradients = differentiate(k + bad, v + bad)
    expected, expected_gradients = differentiate(k, v)
    assert_close("value", value, expected, 1e-6)
    for actual, wanted in zip(gradients, expected_gradients, strict=True):
        assert_close("gradient", actual, wanted, 1e-6)
        assert not np.asarray(actual[0, 6:]).any()


def test_a_token_may_come_alone():
    for mixer in (
        LinformerAttention(8, LinformerConfig(seq_len=3, k=2, num_heads=2), rngs=ParameterKeys(0)),
        performer(),
        linear_no(),
    ):
        assert np.isfinite(np.asarray(jax.jit(mixer)(X[:, :1]))).all()


def linear_no(**options):
    return LinearNOAttention(8, LinearNOConfig(num_heads=2, **options), rngs=ParameterKeys(0))


def performer(features=16, **options):
    return PerformerAttention(8, PerformerConfig(num_heads=2, nb_features=features, **options), rngs=ParameterKeys(0))


def test_linformer_with_one_column_per_token_is_softmax_attention():
    """With E_k = E_v = 1 nothing is compressed."""
    mixer = LinformerAttention(8, LinformerConfig(seq_len=9, k=9, num_heads=2), rngs=ParameterKeys(0))
    mixer.E_k[...] = mixer.E_v[...] = jnp.eye(9)
    mixer.qkv_proj.kernel[...] = 20 * mixer.qkv_proj.kernel[...]

    @jax.jit
    def attend(x):
        q, k, v = jnp.split(mixer.qkv_proj(x).reshape(2, 9, 2, 12), 3, axis=-1)
        return mixer(x), mixer.out_proj(softmax_attention(q, k, v, scale=0.5).reshape(2, 9, 8))

    y, expected = attend(X)
    assert_close("linformer", y, expected, 1e-5)


def test_padded_tokens_receive_the_output_bias_of_linformer():
    mixer = LinformerAttention(8, LinformerConfig(seq_len=9, k=4, num_heads=2, masked=True), rngs=ParameterKeys(0))
    mixer.out_proj.bias[...] = jnp.arange(8.0)
    y = np.asarray(jax.jit(mixer)(X, MASK))
    assert_close("padding", y[0, 6:], np.broadcast_to(np.arange(8.0), (3, 8)), 1e-7)


def test_favor_rows_are_orthogonal_and_long():
    """Blocks of D rows are orthogonal, all have norm √D, and directions are drawn uniformly."""
    rows = np.asarray(performer(features=11, estimator="favor").proj_matrix[...])
    assert rows.shape == (2, 11, 4)
    for first in (0, 4, 8):
        block = rows[:, first : first + 4]
        products = block @ block.swapaxes(1, 2)
        assert_close("products", products, np.broadcast_to(4 * np.eye(block.shape[1]), products.shape), 1e-5)
    many = np.asarray(performer(features=4000, estimator="favor").proj_matrix[...])
    assert np.abs(many.mean((0, 1))).max() < 0.1
    assert_close("covariance", np.einsum("hmd,hme->de", many, many) / 8000, np.eye(4), 0.05)


def test_reference_rows_have_unit_length_and_differ():
    rows = np.asarray(performer(estimator="reference").proj_matrix[...])
    assert_close("norms", np.linalg.norm(rows, axis=-1), np.ones((2, 16)), 1e-6)
    assert len(np.unique(rows)) == rows.size


def distance_from_softmax(estimator, width=64):
    """Return how far a performer of one head is from softmax attention; at 1 it is no better than the plain mean."""
    mixer = PerformerAttention(
        width, PerformerConfig(num_heads=1, nb_features=8192, estimator=estimator), rngs=ParameterKeys(0)
    )
    # The entries of q and k get the standard deviation 0.4.
    mixer.qkv_proj.kernel[...] = 0.4 * mixer.qkv_proj.kernel[...] / (0.02 * width**0.5)

    @jax.jit
    def attend(x):
        q, k, v = (part[:, :, None] for part in jnp.split(mixer.qkv_proj(x), 3, axis=-1))
        mixed = softmax_attention(q, k, v, scale=width**-0.5)[:, :, 0]
        return mixer(x), mixer.out_proj(mixed), jnp.broadcast_to(v.mean(1), mixed.shape), mixed

    y, exact, plain_mean, mixed = attend(jax.random.normal(jax.random.key(1), (2, 9, width)))
    return rms_ratio(y, exact) / rms_ratio(plain_mean, mixed)


def test_favor_approximates_softmax_attention_and_the_reference_does_not():
    assert distance_from_softmax("favor") < 0.25
    assert distance_from_softmax("reference") > 0.8


@pytest.mark.parametrize("estimator", ["favor", "reference"])
def test_large_inputs_stay_finite(estimator):
    mixer = performer(estimator=estimator)
    value, gradient = jax.jit(jax.value_and_grad(lambda x: jnp.sum(mixer(x) ** 2)))(1e3 * X)
    assert np.isfinite(np.asarray(value))
    assert np.isfinite(np.asarray(gradient)).all()


def redrawn_steps(interval, **options):
    """Return the steps of ten in which the random rows change, and the last parameters."""
    options = {
        "num_blocks": 2,
        "channel_dim": 8,
        "num_heads": 2,
        "nb_features": 3,
        "redraw_interval": interval,
        **options,
    }
    graphdef, params = split(build_sequence_model("performer", "listops", 5, 3, options, rngs=ParameterKeys(0)))
    redraw = jax.jit(lambda params, step, key: redraw_features(graphdef, params, step, key))
    changed = []
    for step in range(10):
        new = redraw(params, step, jax.random.fold_in(jax.random.key(0), step))
        names = [name for name in params if (np.asarray(new[name]) != np.asarray(params[name])).any()]
        assert names in ([], ["blocks.0.att.proj_matrix", "blocks.1.att.proj_matrix"])
        changed += [step] if names else []
        params = new
    return changed, params


def test_random_features_are_redrawn_when_due():
    assert redrawn_steps(0)[0] == []
    changed, params = redrawn_steps(4, estimator="reference")
    assert changed == [3, 7]
    rows = np.stack([params[f"blocks.{i}.att.proj_matrix"] for i in (0, 1)])
    assert_close("norms", np.linalg.norm(rows, axis=-1), np.ones(rows.shape[:-1]), 1e-6)
    assert (rows[0] != rows[1]).all()
    assert_close(
        "norms",
        np.linalg.norm(redrawn_steps(5, estimator="favor")[1]["blocks.0.att.proj_matrix"], axis=-1),
        2.0 * np.ones((2, 3)),
        1e-6,
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: performer(estimator="favour"), "estimator is 'favour' .did you mean 'favor'.. but must be one of"),
        (lambda: performer(redraw_interval=-1), "redraw_interval is -1 but must be an integer of at least 0"),
        (lambda: performer(features=0), "nb_features is 0 but must be an integer of at least 1"),
        (lambda: performer(attn_drop=1.0), r"attn_drop is 1\.0 but must be a number of at least 0 and below 1"),
        (lambda: linear_no(attn_drop=0.1), r"attn_drop is 0\.1 but linear_no has no attention probabilities to drop"),
    ],
)
def test_errors(build, message):
    with pytest.raises(ValueError, match=message):
        build()
