"""Golden files of the feature maps: outputs, and gradients for inputs and parameters."""

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
    if name in FIXED_MAPS:
        function, params = (lambda params, x: FIXED_MAPS[name](x)), {}
    else:
        function, params = _load_learnable(name, section(arrays, f"param/{name}."))

    @jax.jit
    def evaluate(params: Any, x: jax.Array, cotangent: jax.Array) -> Any:
        y, pull_back = jax.vjp(function, params, x)
        return y, *pull_back(cotangent)

    y, param_grads, x_grad = evaluate(params, x, jnp.asarray(arrays[f"cotangent/{name}"]))
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


def _load_learnable(name: str, state: Mapping[str, np.ndarray]) -> tuple[Any, dict[str, jax.Array]]:
    """Return a learnable map as a function of (parameters, x) and its parameters from the file."""
    first = state.get("layer1.weight", state.get("layer.weight"))
    # The first layer of swiglu makes two numbers per feature.
    feature_dim = first.shape[0] // 2 if name == "swiglu" else first.shape[0]
    build = LEARNABLE_MAPS[name]
    graphdef, template = split(nnx.eval_shape(lambda: build(first.shape[1], feature_dim, rngs=ParameterKeys(0))))
    params = {key: jnp.asarray(state[key.replace("kernel", "weight")].T) for key in template}
    return apply_fn(graphdef), params
