"""Golden files of language models: logits, loss, gradients, states, and generation token by token."""

import functools
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

    loss, gradients, logits, by_token, state = _evaluate(graphdef, config["prefill"], params, ids, labels)
    outputs = {"loss": loss, "logits": logits, **_named(state)}
    compared = [
        _compare(key.removeprefix("output/"), "output", outputs.get(key.removeprefix("output/")), value)
        for key, value in arrays.items()
        if key.startswith("output/")
    ]
    expected = arrays["output/logits"][:, config["prefill"] - 1 :]
    compared.append(_compare("logits token by token", "output", by_token, expected))
    for name, gradient in gradients.items():
        compared.append(_compare(name, "gradient", gradient, arrays[f"grad_param/{name}"]))
    return compared


@functools.partial(jax.jit, static_argnums=(0, 1))
def _evaluate(graphdef: nnx.GraphDef, length: int, params: Any, ids: jax.Array, labels: jax.Array) -> tuple:
    """Return the loss, its gradients, all logits, and what `_generated` returns."""
    loss, gradients = jax.value_and_grad(lambda p: jnp.mean(merge(graphdef, p).losses(ids, labels)))(params)
    return loss, gradients, merge(graphdef, params)(ids), *_generated(merge(graphdef, params), ids, length)


def _generated(model: CausalDecoder, ids: jax.Array, length: int) -> tuple[jax.Array, Any]:
    """Return the logits after the prefix and after each further token, and the last state of the first block."""
    logits, state = model.prefill(ids[:, :length], model.init_state(*ids.shape))

    def step(state: Any, token: jax.Array) -> tuple[Any, jax.Array]:
        found, state = model.decode_step(token, state)
        return state, found

    state, generated = jax.lax.scan(step, state, ids[:, length:].T)
    return jnp.concatenate([logits[:, None], jnp.swapaxes(generated, 0, 1)], axis=1), state.mixers[0]


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
