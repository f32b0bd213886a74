"""The model of a run from its configuration, and checks that need no data."""

from typing import Any

import jax
import jax.numpy as jnp

from experiments.errors import UserError
from experiments.model_options import option_values
from flare_jax import params as model_params
from flare_jax.models.language import CausalDecoder, build_language_model
from flare_jax.parameter_keys import ParameterKeys


def build(config: Any, vocab_size: int, seed: int) -> CausalDecoder:
    """Return the model of a configuration for a vocabulary."""
    return build_language_model(
        config.model.type,
        vocab_size,
        option_values(config.model),
        context=config.data.length,
        rngs=ParameterKeys(seed),
        dtype=config.train.dtype,
    )


def check_model(config: Any) -> None:
    """Trace the model on a short row, without arrays, so that bad options are reported before any data is read."""
    if config.model.get("block", 1) > 1:
        raise UserError(
            f"model.block={config.model.block} shows a token the rest of its block, so that the next token is no "
            "label; set model.block=1"
        )
    if config.data.get("reset_documents") and config.model.get("gather") == "stablemax":
        raise UserError(
            "data.reset_documents=True does not go with model.gather=stablemax, which keeps everything; set it to False"
        )
    ids = jnp.zeros((1, 8), jnp.int32)

    def forward() -> jax.Array:
        graphdef, params = model_params.split(build(config, 16, 0))
        return model_params.apply_fn(graphdef)(params, ids, key=jax.random.key(0))

    jax.eval_shape(forward)


def check_mesh(config: Any, points: int) -> None:
    """Raise UserError where `points` devices, -1 for all, are to share rows that cannot be split over them."""
    model = config.model
    if points == 1:
        return
    if model.type != "causal_flare" or model.gather != "softmax":
        chosen = f"model.gather={model.gather}" if model.type == "causal_flare" else f"model.type={model.type}"
        raise UserError(
            f"mesh.points={points}, but devices share the tokens of a row with causal_flare and gather=softmax only, "
            f"not with {chosen}; use mesh.data"
        )
    if config.data.name == "recall":
        raise UserError(f"mesh.points={points}, but rows of associative recall are short; use mesh.data")
    if points > 1 and config.data.length % points:
        raise UserError(f"data.length={config.data.length} is no multiple of mesh.points={points}; change one of them")
