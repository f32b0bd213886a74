"""Backends of linear cost train on 16384 tokens without any array of pairs of tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.params import apply_fn
from tests.flare_jax.models.sequence.cases import VOCABULARY, model

LENGTH = 16384
PAIRS = 4 * LENGTH**2
OPTIONS = {
    "linformer": {"k": 16},
    "flare": {"num_latents": 16, "num_layers_kv_proj": 0, "num_layers_ffn": 0},
    "linear": {"kernel": "elu"},
    "linear_no": {"ffn_mlp_ratio": 1.0},
    "performer": {"nb_features": 16},
    "transformer": {},
}


def compile_gradient(backend):
    """Return the compiled gradient of a model of 16384 tokens and its parameters."""
    positions = "abs" if backend == "linear_no" else "rope"
    graphdef, params = model(backend, "listops", max_length=LENGTH, pos_embed=positions, **OPTIONS[backend])
    gradient = jax.jit(jax.value_and_grad(lambda params, ids: jnp.sum(apply_fn(graphdef)(params, ids) ** 2)))
    return gradient.lower(params, jax.ShapeDtypeStruct((1, LENGTH), jnp.int32)).compile(), params


@pytest.mark.parametrize("backend", [name for name in OPTIONS if name != "transformer"])
def test_memory_is_linear_in_the_number_of_tokens(backend):
    compiled, params = compile_gradient(backend)
    assert compiled.memory_analysis().temp_size_in_bytes < PAIRS / 8
    ids = jax.random.randint(jax.random.key(0), (1, LENGTH), 0, VOCABULARY, jnp.int32)
    value, gradients = compiled(params, ids)
    assert np.isfinite(float(value))
    assert all(np.isfinite(np.asarray(gradient)).all() for gradient in gradients.values())


def test_an_array_of_pairs_would_be_found():
    assert compile_gradient("transformer")[0].memory_analysis().temp_size_in_bytes > PAIRS
