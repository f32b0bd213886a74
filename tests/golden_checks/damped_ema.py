"""Golden files of the damped moving average: the original's two forms on the same parameters, and our exact one."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flare_jax.mixers.damped_ema import DampedEMA
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import apply_fn, split
from tests.golden_checks.core import Comparison, gradient_size, largest_error

# Gradients and outputs in float32, relative to the largest entry.
OUTPUT_TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-3
FORMS = {"conv": "reference_conv", "cumsum": "reference_cumsum"}


def check(arrays: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> list[Comparison]:
    """Compare outputs and all gradients of both forms, and the exact filter with the sum unless its clamp acts."""
    params = {
        "proj.kernel" if name == "proj.weight" else name: jnp.asarray(value.T if name == "proj.weight" else value)
        for name, value in _section(arrays, "param/").items()
    }
    x, cotangent = jnp.asarray(arrays["input/x"]), jnp.asarray(arrays["cotangent"])
    compared = []
    for form, implementation in FORMS.items():
        y, (grads, dx) = _evaluate(config, implementation, params, x, cotangent)
        compared.append(_compare(form, "output", y, arrays[f"output/{form}"], OUTPUT_TOLERANCE))
        compared += _compare_gradients(arrays, form, dx, grads)
    if not config.get("exponent_clamp_active", True):
        y, _ = _evaluate(config, "scan", params, x, cotangent)
        compared.append(_compare("exact", "output", y, arrays["output/cumsum"], OUTPUT_TOLERANCE))
    return compared


def _compare_gradients(
    arrays: Mapping[str, np.ndarray], form: str, dx: jax.Array, grads: Mapping[str, jax.Array]
) -> list[Comparison]:
    stored = _section(arrays, f"grad_param/{form}.") | _section(arrays, f"grad_param/{form}/")
    values = {"input": arrays["input/x"], **{name: arrays[f"param/{name}"] for name in stored}}
    expected = {"input": arrays[f"grad_input/{form}"], **stored}
    ours = {"input": dx, **grads, "proj.weight": grads["proj.kernel"].T}
    pairs = [(arrays[f"output/{form}"], arrays["cotangent"]), *((values[name], expected[name]) for name in expected)]
    return [
        Comparison(
            f"{form} {name}",
            "gradient",
            largest_error(ours[name], gradient),
            GRADIENT_TOLERANCE * gradient_size(gradient, values[name], pairs),
        )
        for name, gradient in expected.items()
    ]


def _evaluate(
    config: Mapping[str, Any], implementation: str, params: Mapping[str, jax.Array], x: jax.Array, cotangent: jax.Array
) -> tuple[jax.Array, tuple[Any, jax.Array]]:
    """Return the output and the gradients for parameters and input."""

    def build() -> nnx.Module:
        return DampedEMA(
            config["C"],
            num_components=config["h"],
            ema_impl=implementation,
            kernel_size=config["kernel_size"],
            rngs=ParameterKeys(0),
        )

    return _differentiated(split(nnx.eval_shape(build))[0], params, x, cotangent)


@functools.partial(jax.jit, static_argnums=0)
def _differentiated(graphdef: nnx.GraphDef, params: Any, x: jax.Array, cotangent: jax.Array) -> Any:
    y, pull_back = jax.vjp(apply_fn(graphdef), params, x)
    return y, pull_back(cotangent)


def _section(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


def _compare(name: str, kind: str, actual: Any, expected: np.ndarray, tolerance: float) -> Comparison:
    return Comparison(name, kind, largest_error(actual, expected), tolerance * float(np.max(np.abs(expected))))
