"""Dropout: what it leaves, its mean, and its errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.layers.dropout import check_rate, dropout, refuse_attention_dropout, split_key

X = 1 + jnp.arange(40000.0).reshape(200, 200) / 40000


def test_kept_entries_are_scaled_and_the_mean_stays():
    y = np.asarray(dropout(X, 0.3, jax.random.key(0)))
    kept = y != 0
    assert abs(kept.mean() - 0.7) < 0.02
    assert np.allclose(y[kept], np.asarray(X)[kept] / 0.7)
    assert abs(y.mean() / float(X.mean()) - 1) < 0.02


def test_without_key_or_rate_nothing_happens():
    assert dropout(X, 0.3, None) is X
    assert dropout(X, 0.0, jax.random.key(0)) is X


def test_the_dtype_stays():
    assert dropout(X.astype(jnp.bfloat16), 0.5, jax.random.key(0)).dtype == jnp.bfloat16


def test_keys_are_split_or_absent():
    assert split_key(None, 3) == (None, None, None)
    keys = split_key(jax.random.key(0), 3)
    assert len({tuple(np.asarray(jax.random.key_data(key))) for key in keys}) == 3


@pytest.mark.parametrize("rate", [1.0, -0.1, True, "0.1", float("nan")])
def test_bad_rates(rate):
    with pytest.raises(
        ValueError, match=r"proj_drop is .* but must be at least 0 and below 1; set proj_drop accordingly"
    ):
        check_rate("proj_drop", rate)


def test_mixers_without_probabilities_refuse_their_dropout():
    refuse_attention_dropout("linear attention", 0.0)
    with pytest.raises(ValueError, match=r"attn_drop is 0.1 but linear attention has no attention probabilities"):
        refuse_attention_dropout("linear attention", 0.1)
