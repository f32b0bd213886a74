"""131 072 tokens of context: read in pieces and gone on from, with the numbers of one forward pass, finite in bf16."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flare_jax import params as model_params
from flare_jax.models.language import build_language_model
from tests.flare_jax.models.language.models import MODELS, VOCABULARY, Programs, programs, tokens

CONTEXT, PIECE, DECODED = 131_072, 16_384, 4


@functools.cache
def model_in(dtype):
    """Return the programs of a recommended model of one block."""
    model_type, options = MODELS["recommended"]
    options = {**options, "num_blocks": 1}
    model = build_language_model(model_type, VOCABULARY, options, context=CONTEXT, dtype=dtype, rngs=nnx.Rngs(0))
    graphdef, params = model_params.split(model)
    return Programs(graphdef, {name: programs("recommended").params[name] for name in params})


@functools.cache
def after_the_context(dtype):
    """Return the logits of the last tokens, the prompt's last one first, and the state after them."""
    model, ids, lengths = model_in(dtype), long_text(), jnp.full(1, PIECE)
    state = model.init_state(1, CONTEXT)
    for start in range(0, CONTEXT, PIECE):
        logits, state = model.prefill(ids[:, start : start + PIECE], state, lengths)
    found = [logits]
    for token in range(CONTEXT, CONTEXT + DECODED):
        logits, state = model.decode_step(ids[:, token], state, jnp.ones(1, bool))
        found.append(logits)
    return np.asarray(jnp.concatenate(found), np.float64), state


def long_text():
    return tokens(1, CONTEXT + DECODED)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_and_states_are_finite_and_keep_their_size(dtype):
    logits, state = after_the_context(dtype)
    assert np.all(np.isfinite(logits))
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(state))
    np.testing.assert_array_equal(state.position, [CONTEXT + DECODED])
    assert sum(x.nbytes for x in jax.tree.leaves(state)) < 2048


def test_float32_gives_the_logits_of_one_forward_pass():
    expected = np.asarray(model_in("float32").forward(long_text()), np.float64)[0, -1 - DECODED :]
    np.testing.assert_allclose(after_the_context("float32")[0], expected, atol=1e-5 * np.abs(expected).max())


def test_bfloat16_has_the_accuracy_of_its_numbers():
    expected, found = (after_the_context(dtype)[0] for dtype in ("float32", "bfloat16"))
    assert np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)) < 0.03
