"""Small language models of every kind, and their compiled programs, shared by the tests."""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs.lm import MODELS as configured
from flare_jax import params as model_params
from flare_jax.models.language import build_language_model
from flare_jax.parameter_keys import ParameterKeys

SIZES = {"channel_dim": 16, "num_blocks": 2, "num_heads": 2, "mlp_width": 24}
FLARE = {**SIZES, "num_latents": 5}
RECOMMENDED = configured["recommended"][1]
VOCABULARY, TOKENS, PIECE = 11, 21, 8
MODELS = {
    "published": ("causal_flare", FLARE),
    "recommended": ("causal_flare", {**FLARE, **RECOMMENDED}),
    "stablemax": ("causal_flare", {**FLARE, "gather": "stablemax", "short_conv": True}),
    "state": ("causal_flare", {**FLARE, "gather": "state", "forget": True, "rope": False}),
    "gla": ("gla", {**SIZES, "short_conv": True}),
    "attention": ("causal_attention", {**SIZES, "short_conv": True, "qk_norm": True, "tie": False}),
}


@dataclass(frozen=True)
class Programs:
    """A model with random parameters, and its compiled functions of arrays."""

    graphdef: Any
    params: dict[str, jax.Array]

    def _call(self, method, *arrays):
        return getattr(model_params.merge(self.graphdef, self.params), method)(*arrays)

    @functools.cached_property
    def forward(self):
        return jax.jit(lambda ids: self._call("__call__", ids))

    @functools.cached_property
    def forward_documents(self):
        return jax.jit(lambda ids, documents: self._call("__call__", ids, documents))

    @functools.cached_property
    def prefill(self):
        return jax.jit(lambda ids, state, lengths: self._call("prefill", ids, state, lengths))

    @functools.cached_property
    def decode_step(self):
        return jax.jit(lambda ids, state, active: self._call("decode_step", ids, state, active))

    def init_state(self, batch, max_length):
        return self._call("init_state", batch, max_length)


@functools.cache
def programs(name) -> Programs:
    """Return the programs of a model, with parameters far enough from their initial values that all of them matter."""
    model_type, options = MODELS[name]
    model = build_language_model(model_type, VOCABULARY, options, context=64, rngs=ParameterKeys(0))
    graphdef, params = model_params.split(model)
    rng = np.random.default_rng(0)
    params = {key: x + jnp.float32(0.2 * rng.standard_normal(x.shape)) for key, x in params.items()}
    return Programs(graphdef, params)


def tokens(batch=3, length=TOKENS):
    """Return random token numbers [B, N]."""
    return jnp.asarray(np.random.default_rng(1).integers(0, VOCABULARY, (batch, length)), jnp.int32)
