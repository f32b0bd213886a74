"""Golden files of language models: logits, loss, gradients, states, and generation token by token."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flare_jax.models.language import CausalDecoder, build_language_model
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import merge, split
from tests.golden_checks.core import Comparison, largest_entry, largest_error

Arrays = Mapping[str, np.ndarray]

OUTPUT_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-4
_TYPES = {"flare": "causal_flare", "gla": "gla", "attention": "causal_attention"}
_NAMES = {"channels": "channel_dim", "num_layers": "num_blocks", "norm_eps": "norm_epsilon"}
# Options that every file states, of mixers that do not have them.
_WITHOUT = {
    "gla": ("num_latents", "rope", "rope_base", "qk_norm", "separate_read", "forget", "out_gate"),
    "attention": ("num_latents", "separate_read", "forget", "out_gate", "gate_rank"),
    "flare": ("gate_rank",),
}


def build(config: Mapping[str, Any], implementation: str | None = None) -> CausalDecoder:
    """Return the model of a file."""
    mixer, options = config["mixer"], dict(config)
    vocabulary = options.pop("vocab_size")
    for name in ("mixer", *_WITHOUT[mixer]):
        options.pop(name, None)
    if not options.get("rope", True):
        options.pop("rope_base", None)
    if implementation is not None and mixer == "flare":
        options["implementation"] = implementation
    options = {_NAMES.get(name, name): value for name, value in options.items()}
    return build_language_model(_TYPES[mixer], vocabulary, options, rngs=ParameterKeys(0))


def check(arrays: Arrays, config: Mapping[str, Any], implementation: str | None = None) -> list[Comparison]:
    """Compare a model with the parameters of the file with its outputs, gradients and states."""
    graphdef, template = split(nnx.eval_shape(lambda: build(config["model"], implementation)))
    params = {key.removeprefix("param/"): jnp.asarray(x) for key, x in arrays.items() if key.startswith("param/")}
    different = params.keys() ^ template.keys()
    if different:
        raise ValueError(f"the model and the file do not have the same parameters: {', '.join(sorted(different))}")
    ids, labels = jnp.asarray(arrays["input/input_ids"]), jnp.asarray(arrays["input/labels"])

    @jax.jit
    def evaluate(params: Any) -> Any:
        def loss(params: Any) -> Any:
            model = merge(graphdef, params)
            return jnp.mean(model.losses(ids, labels)), model(ids)

        return jax.value_and_grad(loss, has_aux=True)(params)

    (loss, logits), gradients = evaluate(params)
    prefix, generated, state = _generated(graphdef, params, ids, config["prefill"])
    outputs = {"loss": loss, "logits": logits, **_named(state)}
    compared = [
        _compare(key.removeprefix("output/"), "output", outputs.get(key.removeprefix("output/")), value)
        for key, value in arrays.items()
        if key.startswith("output/")
    ]
    expected = arrays["output/logits"][:, config["prefill"] - 1 :]
    compared.append(_compare("logits token by token", "output", jnp.stack([prefix, *generated], axis=1), expected))
    for name, gradient in gradients.items():
        compared.append(_compare(name, "gradient", gradient, arrays[f"grad_param/{name}"]))
    return compared


def _generated(graphdef: Any, params: Any, ids: jax.Array, length: int) -> tuple[jax.Array, list[jax.Array], Any]:
    """Return the logits after the prefix, those after each further token, and the last state of the first block."""
    prefill = jax.jit(lambda params, ids, state: merge(graphdef, params).prefill(ids, state))
    step = jax.jit(lambda params, ids, state: merge(graphdef, params).decode_step(ids, state))
    logits, state = prefill(params, ids[:, :length], merge(graphdef, params).init_state(*ids.shape))
    generated = []
    for token in range(length, ids.shape[1]):
        found, state = step(params, ids[:, token], state)
        generated.append(found)
    return logits, generated, state.mixers[0]


def _named(state: Any) -> dict[str, jax.Array]:
    """Return the state of a mixer as files name it."""
    if hasattr(state, "memory"):
        return {"block0_s": state.memory}
    if not hasattr(state, "latents"):
        return {}
    maximum, mass, total = state.latents
    return {
        "block0_mu": maximum,
        "block0_d": mass,
        "block0_u": total,
        "block0_z": total / mass[..., None],
        "block0_log_mass": maximum + jnp.log(mass),
    }


def _compare(name: str, kind: str, actual: Any, expected: np.ndarray) -> Comparison:
    tolerance = OUTPUT_TOLERANCE if kind == "output" else GRADIENT_TOLERANCE
    size = max(largest_entry(expected), np.finfo(np.float32).tiny)
    return Comparison(name, kind, np.inf if actual is None else largest_error(actual, expected) / size, tolerance)
