"""Short convolutions, whose derivative is written out, against a sum over taps that JAX differentiates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flare_jax.mixers.causal_streams import CONVOLUTION_WIDTH, Places, ShortConvolution

BATCH, LENGTH, CHANNELS = 2, 7, 3
DOCUMENTS = jnp.array([[0, 0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 1, 1, 1]])


def by_definition(kernel, x, tail, documents):
    rows = []
    for n in range(LENGTH):
        total = jnp.zeros((BATCH, CHANNELS))
        for tap in range(CONVOLUTION_WIDTH):
            source = n + tap - (CONVOLUTION_WIDTH - 1)
            token = x[:, source] if source >= 0 else tail[:, source]
            if documents is not None:
                own = documents[:, source] if source >= 0 else jnp.zeros(BATCH, int)
                token = jnp.where((own == documents[:, n])[:, None], token, 0)
            total = total + token * kernel[:, tap]
        rows.append(total * jax.nn.sigmoid(total))
    return jnp.stack(rows, axis=1)


@pytest.mark.parametrize("documents", [None, DOCUMENTS], ids=["one document", "documents"])
def test_filtered_tokens_and_gradients_are_those_of_the_sum_over_taps(documents):
    convolution = ShortConvolution(CHANNELS, delayed=1, rngs=nnx.Rngs(0))
    graphdef, params = nnx.split(convolution)
    x, tail, dy = (
        jax.random.normal(jax.random.key(i), (BATCH, n, CHANNELS))
        for i, n in enumerate((LENGTH, CONVOLUTION_WIDTH - 1, LENGTH))
    )
    positions = jnp.broadcast_to(jnp.arange(LENGTH), (BATCH, LENGTH))

    def filtered(kernel, x, tail):
        return nnx.merge(graphdef, {"kernel": kernel})(x, Places(positions, documents), tail)[0]

    def values(function):
        y, pull_back = jax.vjp(function, params["kernel"][...], x, tail)
        return y, *pull_back(dy)

    expected = jax.jit(lambda: values(lambda *arrays: by_definition(*arrays, documents)))()
    for got, want in zip(jax.jit(lambda: values(filtered))(), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
