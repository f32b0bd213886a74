"""Golden files of the embeddings: sinusoids, learned positions, both rotary modes, tokens with a padding row."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flare_jax.layers.embeddings import LearnedPositions, SinusoidalPositions, TokenEmbedding, sinusoidal_table
from flare_jax.layers.rotary import RotaryEmbedding
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import merge, split
from tests.golden_checks.core import Comparison
from tests.golden_checks.sequence_models import compare_gradients, compare_output

Arrays = Mapping[str, np.ndarray]


def check(arrays: Arrays, config: Mapping[str, Any]) -> list[Comparison]:
    """Compare all embeddings with the file."""
    length, width = config["N"], config["channel_dim"]
    positions = _load(lambda: SinusoidalPositions(width), {"pos_scale": arrays["param/sin.pos_scale"]})
    table = arrays["param/abs.pe.weight"]
    learned = _load(lambda: LearnedPositions(config["max_length"], width, rngs=ParameterKeys(0)), {"embedding": table})
    rows = jnp.broadcast_to(learned(length), arrays["output/abs"].shape)
    return [
        compare_output("sin_table", sinusoidal_table(length, width), arrays["output/sin_table"]),
        compare_output("sin_scaled", positions(length), arrays["output/sin_scaled"]),
        compare_output("abs", rows, arrays["output/abs"]),
        *_check_rotary(arrays, config),
        *_check_tokens(arrays, config),
    ]


def _check_rotary(arrays: Arrays, config: Mapping[str, Any]) -> list[Comparison]:
    def rotate(x: jax.Array, mode: str) -> jax.Array:
        # Files hold [B, H, N, D].
        return jnp.swapaxes(RotaryEmbedding(config["max_length"], mode)(jnp.swapaxes(x, 1, 2)), 1, 2)

    x = jnp.asarray(arrays["input/rope_x"])

    @jax.jit
    def evaluate(x: jax.Array, cotangent: jax.Array) -> Any:
        y, pull_back = jax.vjp(lambda x: rotate(x, "reference"), x)
        return y, pull_back(cotangent)[0], rotate(x, "interleaved")

    y, gradient, other = evaluate(x, jnp.asarray(arrays["cotangent/rope"]))
    interleaved = "rope_interleaved_correct"
    return [
        compare_output("rope", y, arrays["output/rope"]),
        compare_output(interleaved, other, arrays[f"output/{interleaved}"]),
        *compare_gradients({"rope": np.asarray(gradient)}, {"rope": arrays["grad_input/rope"]}, {}),
    ]


def _check_tokens(arrays: Arrays, config: Mapping[str, Any]) -> list[Comparison]:
    name, pad_id = "token_embed.weight", config["padding_idx"]
    table = jnp.asarray(arrays[f"param/{name}"])
    # With a padding row there is one row more than tokens.
    vocab_size = len(table) - (pad_id is not None)

    def embed(table: jax.Array) -> jax.Array:
        module = _load(
            lambda: TokenEmbedding(
                vocab_size, table.shape[1], pad_id=pad_id, zero_padding=False, rngs=ParameterKeys(0)
            ),
            {"embedding": table},
        )
        return module(jnp.asarray(arrays["input/ids"]))

    y, pull_back = jax.vjp(embed, table)
    (gradient,) = pull_back(jnp.asarray(arrays["cotangent/token"]))
    return [
        compare_output("token", y, arrays["output/token"]),
        *compare_gradients({name: np.asarray(gradient)}, {name: arrays[f"grad_param/{name}"]}, {}),
    ]


def _load(build: Any, params: Mapping[str, Any]) -> nnx.Module:
    graphdef, template = split(nnx.eval_shape(build))
    assert {name: np.shape(value) for name, value in params.items()} == {n: t.shape for n, t in template.items()}
    return merge(graphdef, {name: jnp.asarray(value) for name, value in params.items()})
