"""Golden files of the feature maps: outputs, and gradients for inputs and parameters."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flare_jax.layers.feature_maps import FIXED_MAPS, LEARNABLE_MAPS
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import apply_fn, split
from tests.golden_checks.core import Comparison, gradient_size, largest_error
from tests.golden_checks.sequence_models import compare_gradients, compare_output, section

GRADIENT_TOLERANCE = 1e-4
# The file states that these take half of the stored input.
HALVED = (*LEARNABLE_MAPS, "taylor")


def check(arrays: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> list[Comparison]:
    """Compare every map that `config` lists."""
    results = []
    for name in config["maps"]:
        x = jnp.asarray(arrays["input/x"] * np.float32(0.5 if name in HALVED else 1.0))
        results += _check_map(name, x, arrays)
    return results


def _check_map(name: str, x: jax.Array, arrays: Mapping[str, np.ndarray]) -> list[Comparison]:
    graphdef, params = (None, {}) if name in FIXED_MAPS else _load_learnable(name, section(arrays, f"param/{name}."))
    y, param_grads, x_grad = _evaluate(name, graphdef, params, x, jnp.asarray(arrays[f"cotangent/{name}"]))
    expected = arrays[f"grad_input/{name}"]
    # Learnable maps are linear layers: parameters are named and laid out as in a state_dict.
    named = {key.replace("kernel", "weight"): np.asarray(grad).T for key, grad in param_grads.items()}
    param_results = compare_gradients(named, section(arrays, f"grad_param/{name}."), {})
    return [
        compare_output(name, y, arrays[f"output/{name}"]),
        Comparison(
            f"input of {name}",
            "gradient",
            largest_error(x_grad, expected),
            GRADIENT_TOLERANCE * gradient_size(expected, x, [(arrays[f"output/{name}"], arrays[f"cotangent/{name}"])]),
        ),
        *(Comparison(f"{name}.{c.name}", c.kind, c.error, c.tolerance) for c in param_results),
    ]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _evaluate(name: str, graphdef: nnx.GraphDef | None, params: Any, x: jax.Array, cotangent: jax.Array) -> Any:
    """Return a map's output and its gradients for parameters and input; `graphdef` is that of a learnable one."""
    function = apply_fn(graphdef) if graphdef is not None else lambda params, x: FIXED_MAPS[name](x)
    y, pull_back = jax.vjp(function, params, x)
    return y, *pull_back(cotangent)


def _load_learnable(name: str, state: Mapping[str, np.ndarray]) -> tuple[nnx.GraphDef, dict[str, jax.Array]]:
    """Return the structure of a learnable map and its parameters from the file."""
    first = state.get("layer1.weight", state.get("layer.weight"))
    # The first layer of swiglu makes two numbers per feature.
    feature_dim = first.shape[0] // 2 if name == "swiglu" else first.shape[0]
    build = LEARNABLE_MAPS[name]
    graphdef, template = split(nnx.eval_shape(lambda: build(first.shape[1], feature_dim, rngs=ParameterKeys(0))))
    params = {key: jnp.asarray(state[key.replace("kernel", "weight")].T) for key in template}
    return graphdef, params
