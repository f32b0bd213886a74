"""Token and position embeddings: rows, the padding token, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.layers.embeddings import LearnedPositions, SinusoidalPositions, TokenEmbedding
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import apply_fn, split
from tests.flare_jax.models.sequence.naive_model import sinusoids
from tests.numerics import assert_close

IDS = jnp.array([[0, 4, 4, 2], [3, 1, 0, 5]])


def test_tokens_are_rows_of_the_table():
    embedding = TokenEmbedding(6, 3, rngs=ParameterKeys(0))
    assert (np.asarray(embedding(IDS)) == np.asarray(embedding.embedding[...])[np.asarray(IDS)]).all()


@pytest.mark.parametrize("zero_padding", [False, True])
def test_the_padding_row(zero_padding):
    embedding = TokenEmbedding(5, 3, pad_id=5, zero_padding=zero_padding, rngs=ParameterKeys(0))
    table = embedding.embedding[...]
    assert table.shape == (6, 3)
    y = embedding(IDS)
    assert np.asarray(y[1, 3]).any() != zero_padding
    assert (np.asarray(y[:, :3]) == np.asarray(table)[np.asarray(IDS[:, :3])]).all()

    graphdef, params = split(embedding)
    gradient = np.asarray(jax.grad(lambda params: jnp.sum(apply_fn(graphdef)(params, IDS)))(params)["embedding"])
    assert (gradient[:, 0] == [2, 1, 1, 1, 2, 0]).all()


def test_sinusoids():
    positions = SinusoidalPositions(6)
    assert float(positions.pos_scale[...]) == pytest.approx(6**-0.5)
    positions.pos_scale[...] = jnp.float32(0.7)
    assert_close("sinusoids", positions(300), 0.7 * sinusoids(300, 6), 1e-6)


def test_learned_positions():
    positions = LearnedPositions(5, 3, rngs=ParameterKeys(0))
    assert (np.asarray(positions(4)) == np.asarray(positions.embedding[...])[:4]).all()
    with pytest.raises(
        ValueError, match="the sequence has 6 tokens but there are positions for 5; shorten it or build"
    ):
        positions(6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TokenEmbedding(0, 3, rngs=ParameterKeys(0)), "vocab_size is 0 but must be an integer of at least 1"),
        (
            lambda: TokenEmbedding(4, 3, pad_id=5, rngs=ParameterKeys(0)),
            "pad_id is 5 but the last row of the embedding is 4",
        ),
        (
            lambda: TokenEmbedding(4, 3, pad_id=-1, rngs=ParameterKeys(0)),
            "pad_id is -1 but must be an integer of at least 0",
        ),
        (
            lambda: SinusoidalPositions(5),
            "channel_dim is 5 but sinusoidal positions need an even width; choose an even",
        ),
        (lambda: LearnedPositions(0, 3, rngs=ParameterKeys(0)), "max_length is 0"),
    ],
)
def test_errors(build, message):
    with pytest.raises(ValueError, match=message):
        build()
