"""The attention of GNOT in all its normalisations: the formula, and padding by a mask."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.mixers.normalized_linear_attention import NORMALIZATIONS, NormalizedLinearAttention
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import split
from tests.flare_jax.models import naive_operators
from tests.numerics import assert_close

_TORCH_NAMES = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "proj"}


def attention_and_state(attn_type):
    """Return the layer and its state; positive queries and keys keep l2 away from a division by zero."""
    attention = NormalizedLinearAttention(12, num_heads=3, attn_type=attn_type, rngs=ParameterKeys(0))
    for ours in ("q_proj", "k_proj"):
        layer = getattr(attention, ours)
        layer.kernel[...] *= 10
        layer.bias[...] += 1
    params = {name: np.asarray(value, np.float64) for name, value in split(attention)[1].items()}
    state = {f"a.{_TORCH_NAMES[ours]}.weight": params[f"{ours}.kernel"].T for ours in _TORCH_NAMES}
    return attention, state | {f"a.{_TORCH_NAMES[ours]}.bias": params[f"{ours}.bias"] for ours in _TORCH_NAMES}


def tokens(n, seed):
    return jax.random.normal(jax.random.key(seed), (2, n, 12))


@pytest.mark.parametrize("attn_type", NORMALIZATIONS)
def test_formula(attn_type):
    attention, state = attention_and_state(attn_type)
    x, y = tokens(5, 0), tokens(9, 1)
    as_numpy = (np.asarray(x, np.float64), np.asarray(y, np.float64))
    expected = naive_operators.normalized_linear_attention(state, "a", *as_numpy, 3, attn_type)
    assert_close(attn_type, attention(x, y), expected, 1e-5)


@pytest.mark.parametrize("attn_type", NORMALIZATIONS)
def test_masked_tokens_are_absent(attn_type):
    attention, _ = attention_and_state(attn_type)
    x, y = tokens(5, 0), tokens(9, 1)
    mask = jnp.arange(9) < 6
    masked = attention(x, y, jnp.tile(mask, (2, 1)))
    assert_close("masked", masked, attention(x, y[:, :6]), 1e-5)
    nothing = attention(x, y, jnp.zeros((2, 9), bool))
    assert np.isfinite(np.asarray(nothing)).all()
