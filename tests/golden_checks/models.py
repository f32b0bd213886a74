"""Golden files of whole models: outputs, parameter gradients through the converter, and input gradients.

How the original's constructor arguments map to our options is `ORIGINALS` in `flare_jax.convert.originals`.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flare_jax.convert import from_torch, to_torch
from flare_jax.convert.mappings import TORCH_MAPPINGS, is_unused
from flare_jax.convert.originals import OriginalModel, find_original
from flare_jax.models import build_model
from flare_jax.models.registry import MODELS
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import apply_fn, split
from tests.golden_checks.core import Comparison, gradient_size, largest_error
from tests.golden_checks.statistics import compare_statistics

OUTPUT_TOLERANCE = 2e-5
INPUT_TOLERANCE = 1e-4
_INPUT_NAMES = {"f": "fx", "y": "fx", "T": "time"}
_FUNCTION_FEATURES = {"f", "fx"}
_SLICE_MODELS = ("transolver", "transolver++", "lamo")


def check(arrays: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> list[Comparison]:
    """Compare a model built from `config` with the outputs and gradients of the file (tolerances: goldens README)."""
    original = find_original(config["model"], config["args"])
    effective = _effective(original.model_type, config["args"], section(arrays, "param/"), _inputs(arrays))
    graphdef, template = _build(original, effective)
    compared = compare(original.model_type, graphdef, template, arrays, config)
    if not config.get("diagnostics"):
        return compared
    params = from_torch(original.model_type, template, section(arrays, "param/"))
    run = jax.jit(functools.partial(apply_fn(graphdef), return_statistics=True))
    _, statistics = run(params, **_call_arguments(_inputs(arrays)))
    return [*compared, *compare_statistics(statistics, config["diagnostics"])]


def compare(
    model_type: str,
    graphdef: nnx.GraphDef,
    template: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    config: Mapping[str, Any],
) -> list[Comparison]:
    """Compare a structure, whose parameters are named as in a model of this type, with the file."""
    inputs = _inputs(arrays)
    params = from_torch(model_type, template, section(arrays, "param/"))
    expected = section(arrays, "output/")
    with_scores = any(key.startswith("scores_") for key in expected)
    floats = {key: value for key, value in inputs.items() if jnp.issubdtype(value.dtype, jnp.floating)}
    others = {key: value for key, value in inputs.items() if key not in floats}
    cotangent = jnp.asarray(arrays["cotangent"])
    (param_grads, input_grads), outputs = _evaluate(graphdef, with_scores, params, floats, others, cotangent)
    return [
        *_compare_outputs(outputs, expected, config),
        *_compare_param_grads(model_type, param_grads, section(arrays, "grad_param/"), config),
        *_compare_input_grads(input_grads, arrays),
    ]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _evaluate(
    graphdef: nnx.GraphDef, with_scores: bool, params: Any, floats: Any, others: Any, cotangent: jax.Array
) -> tuple[Any, dict[str, Any]]:
    """Return the gradients for parameters and inputs, and the outputs; a program that files of one structure share."""
    forward = functools.partial(apply_fn(graphdef), **({"return_scores": True} if with_scores else {}))

    def loss(params: Any, floats: Any) -> Any:
        outputs = _name_outputs(forward(params, **_call_arguments(others | floats)))
        return jnp.sum(outputs["out"] * cotangent), outputs

    return jax.grad(loss, argnums=(0, 1), has_aux=True)(params, floats)


def _inputs(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the inputs of a file; a time may be a whole number."""
    inputs = {key: jnp.asarray(value) for key, value in section(arrays, "input/").items()}
    return {key: x.astype(jnp.float32) if key in ("T", "time") else x for key, x in inputs.items()}


def _effective(
    model_type: str, arguments: Mapping[str, Any], state: Mapping[str, Any], inputs: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return what the arguments amount to in the original with these parameters and inputs.

    It accepts a gating and drops it (docs/original.md, D4): no gates then. And without function features x alone enters
    the embedding of the slice-token models, so that x holds what `fun_dim` counts.
    """
    if model_type == "unloopy" and not any("g_proj" in name.split(".") for name in state):
        return {name: value for name, value in arguments.items() if name != "gating"}
    if model_type in _SLICE_MODELS and not inputs.keys() & _FUNCTION_FEATURES:
        width = arguments.get("space_dim", 1) + arguments.get("fun_dim", 1)
        return {**arguments, "space_dim": width, "fun_dim": 0}
    return arguments


def _build(original: OriginalModel, arguments: Mapping[str, Any]) -> tuple[nnx.GraphDef, dict[str, Any]]:
    """Return our structure and the shapes of its parameters for the original's constructor arguments."""
    in_dim, out_dim, options = original.translate(arguments)
    if "eval_noise" in MODELS[original.model_type].options():
        # Outputs of the files are without noise, or with the draws that they hold.
        options = {**options, "eval_noise": False}
    return split(
        nnx.eval_shape(lambda: build_model(original.model_type, in_dim, out_dim, options, rngs=ParameterKeys(0)))
    )


def _call_arguments(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs by our names: function features f or y, the time T, and the uniform draws of each block."""
    draws = sorted((name for name in inputs if name.startswith("gumbel_u_")), key=lambda name: int(name.split("_")[-1]))
    named = {_INPUT_NAMES.get(name, name): value for name, value in inputs.items() if name not in draws}
    return named | ({"uniforms": [inputs[name] for name in draws]} if draws else {})


def section(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return the arrays below a prefix by the rest of their names."""
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


def _name_outputs(result: Any) -> dict[str, Any]:
    """Return the outputs by the names that the files give them."""
    prediction, scores = result if isinstance(result, tuple) else (result, ())
    return {"out": prediction} | {f"scores_{block}": array for block, array in enumerate(scores)}


def _compare_outputs(
    outputs: Mapping[str, Any], expected: Mapping[str, np.ndarray], config: Mapping[str, Any]
) -> list[Comparison]:
    rounding = (config.get("fp32_vs_fp64") or {}).get("output_max_abs") or 0.0
    tolerance = max(OUTPUT_TOLERANCE, 10 * rounding)
    return [Comparison(name, "output", _error(outputs.get(name), array), tolerance) for name, array in expected.items()]


def _compare_param_grads(
    model_type: str, param_grads: Mapping[str, Any], expected: Mapping[str, np.ndarray], config: Mapping[str, Any]
) -> list[Comparison]:
    """Compare all parameters of ours; the rest of the file's are those that the original never uses."""
    grads, mapping = to_torch(model_type, param_grads, differences=True), TORCH_MAPPINGS[model_type]
    largest = max((float(np.max(np.abs(g), initial=0.0)) for g in expected.values()), default=0.0)
    largest = (config.get("fp32_vs_fp64") or {}).get("grad_param_global_max") or largest
    unused = set(config.get("params_without_grad") or ())
    used = {name for name in expected if name not in unused and not is_unused(name, mapping)}
    names = sorted(set(grads) | used)
    return [
        Comparison(
            name,
            "gradient",
            _error(grads.get(name), expected.get(name)),
            1e-3 * _largest(expected.get(name)) + 2e-5 * largest,
        )
        for name in names
    ]


def _compare_input_grads(grads: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> list[Comparison]:
    pairs = [(arrays["output/out"], arrays["cotangent"])]
    for kind in ("param", "input"):
        values = section(arrays, f"{kind}/")
        pairs += [(values[name], array) for name, array in section(arrays, f"grad_{kind}/").items() if name in values]
    return [
        Comparison(
            f"input {name}",
            "gradient",
            _error(grads.get(name), array),
            INPUT_TOLERANCE * gradient_size(array, arrays[f"input/{name}"], pairs),
        )
        for name, array in section(arrays, "grad_input/").items()
    ]


def _error(actual: Any | None, expected: np.ndarray | None) -> float:
    """Return the largest error, infinite where either side is absent."""
    return float("inf") if actual is None or expected is None else largest_error(actual, expected)


def _largest(array: np.ndarray | None) -> float:
    return 0.0 if array is None else float(np.max(np.abs(array), initial=0.0))
