"""Golden files of sequence models: logits, and parameter gradients through the converter."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flare_jax.convert import from_torch, to_torch
from flare_jax.convert.sequence_originals import translate_sequence_arguments
from flare_jax.models.sequence import build_sequence_model
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import apply_fn, split
from tests.golden_checks.core import Comparison, largest_error

Arrays = Mapping[str, np.ndarray]

OUTPUT_ABSOLUTE, OUTPUT_RELATIVE = 2e-5, 1e-4
GRADIENT_RELATIVE, GRADIENT_FLOOR = 1e-3, 1e-4
# Of the reference's own float32 error, which a file may state: where it is larger than usual, so are the tolerances.
ROUNDING_FACTOR = 10


def check(arrays: Arrays, config: Mapping[str, Any]) -> list[Comparison]:
    """Compare a model built from `config` with the logits and gradients of the file."""
    model_type, graphdef, params = load_model(arrays, config)
    ids, mask = model_inputs(arrays)
    cotangent = jnp.asarray(arrays["cotangent" if "cotangent" in arrays else "cotangent/logits"])
    grads, logits = _evaluate(graphdef, params, ids, mask, cotangent)
    return [
        compare_output("logits", logits, arrays["output/logits"], rounding(config, "output_max_abs")),
        *compare_gradients(to_torch(model_type, grads), section(arrays, "grad_param/"), config),
    ]


@functools.partial(jax.jit, static_argnums=0)
def _evaluate(
    graphdef: nnx.GraphDef, params: Any, ids: jax.Array, mask: jax.Array | None, cotangent: jax.Array
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Return gradients and logits; a program that files of one structure share."""

    def loss(params: Any) -> Any:
        logits = apply_fn(graphdef)(params, ids, mask)
        return jnp.sum(logits * cotangent), logits

    return jax.grad(loss, has_aux=True)(params)


def load_model(arrays: Arrays, config: Mapping[str, Any]) -> tuple[str, nnx.GraphDef, dict[str, Any]]:
    """Return (model type, structure, parameters) of the model of a file."""
    backend = config["backend"]
    model_type, *sizes, options = translate_sequence_arguments(config["model_type"], backend, config["kwargs"])

    def build() -> nnx.Module:
        return build_sequence_model(backend, *sizes, options, model_type=model_type, rngs=ParameterKeys(0))

    graphdef, template = split(nnx.eval_shape(build))
    # Random features count as parameters of ours; the original keeps them, and counts of calls, in buffers.
    features = {name: value for name, value in section(arrays, "buffer/").items() if name.endswith(".proj_matrix")}
    return model_type, graphdef, from_torch(model_type, template, section(arrays, "param/") | features)


def model_inputs(arrays: Arrays) -> tuple[jax.Array, jax.Array | None]:
    """Return token numbers and mask."""
    mask = arrays.get("input/attention_mask")
    return jnp.asarray(arrays["input/input_ids"]), None if mask is None else jnp.asarray(mask).astype(bool)


def section(arrays: Arrays, prefix: str) -> dict[str, np.ndarray]:
    """Return the arrays below a prefix by the rest of their names."""
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


def rounding(config: Mapping[str, Any], name: str) -> float:
    """Return one of the reference's own rounding errors, 0 if the file does not state it."""
    return (config.get("f32_vs_f64") or {}).get(name, 0.0)


def compare_output(name: str, actual: Any, expected: np.ndarray, rounding_error: float = 0.0) -> Comparison:
    """Compare one output on the scale of its largest entry."""
    tolerance = max(OUTPUT_ABSOLUTE + OUTPUT_RELATIVE * _largest(expected), ROUNDING_FACTOR * rounding_error)
    return Comparison(name, "output", largest_error(actual, expected), tolerance)


def compare_gradients(
    grads: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], config: Mapping[str, Any]
) -> list[Comparison]:
    """Compare all parameters, whose names must coincide except for those that the original never uses."""
    unused = set(config.get("unused_params") or ())
    floor = GRADIENT_FLOOR * max(map(_largest, expected.values()), default=0.0)
    relative_rounding = ROUNDING_FACTOR * rounding(config, "grad_max_rel_to_tensor_max")
    results = []
    for name in sorted(set(grads) | (set(expected) - unused)):
        if name in grads and name in expected:
            error = largest_error(grads[name], expected[name])
            scale = _largest(expected[name])
            tolerance = max(GRADIENT_RELATIVE * scale, floor, relative_rounding * max(scale, floor))
        else:
            error, tolerance = float("inf"), 0.0
        results.append(Comparison(name, "gradient", error, tolerance))
    return results


def _largest(array: np.ndarray) -> float:
    return float(np.max(np.abs(array), initial=0.0))
