"""Golden files of the causal kernels: outputs, states and gradients, relative to the largest entry."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernels.causal_flare import StablemaxState, State, causal_flare, stablemax_flare
from kernels.causal_linear_attention import gated_linear_attention
from tests.golden_checks import causal_models
from tests.golden_checks.core import Comparison, largest_entry, largest_error

Arrays = Mapping[str, np.ndarray]
Outputs = dict[str, jax.Array]

OUTPUT_TOLERANCE, GRADIENT_TOLERANCE = 2e-5, 1e-4
# Arrays without an axis of tokens are in our layout; the others are stored with the heads before the tokens.
_WITHOUT_TOKENS = ("q", "q_dec", "initial_mu", "initial_d", "initial_u", "initial_s", "initial_z", "mask")
_ARGUMENTS = {"q_dec": "q_decode", "k_dec": "k_decode"}


def check(arrays: Arrays, config: Mapping[str, Any], implementation: str | None = None) -> list[Comparison]:
    """Compare the kernel or the model that `config` names with the outputs and gradients of the file."""
    if config["kind"] == "causal_lm":
        return causal_models.check(arrays, config, implementation)
    call = _CALLS[config["kind"]]
    mask = arrays.get("input/mask")
    inputs = {
        key.removeprefix("input/"): _oriented(key.removeprefix("input/"), value)
        for key, value in arrays.items()
        if key.startswith("input/") and key != "input/mask"
    }
    fixed = {} if mask is None else {"mask": jnp.asarray(mask)}

    @jax.jit
    def evaluate(inputs: Outputs) -> tuple[Outputs, Outputs]:
        outputs, pull_back = jax.vjp(lambda x: call({**x, **fixed}, config, implementation), inputs)
        cotangents = {name: jnp.zeros_like(x) for name, x in outputs.items()}
        cotangents["out"] = jnp.asarray(np.swapaxes(arrays["cotangent/out"], 1, 2))
        return outputs, pull_back(cotangents)[0]

    outputs, gradients = evaluate(inputs)
    outputs = {name: _oriented(name, x) if name == "out" else x for name, x in outputs.items()}
    return _compared("output", outputs, arrays, OUTPUT_TOLERANCE) + _compared(
        "gradient", {name: _oriented(name, x) for name, x in gradients.items()}, arrays, GRADIENT_TOLERANCE
    )


def _compared(kind: str, actual: Outputs, arrays: Arrays, tolerance: float) -> list[Comparison]:
    prefix = {"output": "output/", "gradient": "grad_input/"}[kind]
    names = [key.removeprefix(prefix) for key in arrays if key.startswith(prefix)]
    result = []
    for name in names:
        expected = arrays[prefix + name]
        size = max(largest_entry(expected), np.finfo(np.float32).tiny)
        error = largest_error(actual[name], expected) / size if name in actual else np.inf
        result.append(Comparison(name, kind, error, tolerance))
    return result


def _oriented(name: str, x: Any) -> jax.Array:
    # By numpy, which compiles nothing.
    return jnp.asarray(x if name in _WITHOUT_TOKENS else np.swapaxes(np.asarray(x), 1, 2))


def _flare(inputs: Outputs, config: Mapping[str, Any], implementation: str | None) -> Outputs:
    arguments = {_ARGUMENTS.get(name, name): x for name, x in inputs.items() if not name.startswith("initial_")}
    if "initial_mu" in inputs:
        arguments["initial_state"] = State(*(inputs[f"initial_{name}"] for name in ("mu", "d", "u")))
    y, state = causal_flare(
        **arguments,
        scale=config["scale"],
        block=config.get("block_size", 1),
        implementation=implementation,
        return_state=True,
    )
    latents = state.total / state.mass[..., None]
    named = {"final_mu": state.maximum, "final_d": state.mass, "final_u": state.total, "z_last": latents}
    return {"out": y, **named}


def _stablemax(inputs: Outputs, config: Mapping[str, Any], implementation: str | None) -> Outputs:
    arguments = {_ARGUMENTS.get(name, name): x for name, x in inputs.items() if not name.startswith("initial_")}
    if "initial_z" in inputs:
        arguments["initial_state"] = StablemaxState(inputs["initial_d"], inputs["initial_z"])
    y, state = stablemax_flare(
        **arguments, scale=config["scale"], power=config["power"], implementation=implementation, return_state=True
    )
    return {"out": y, "final_d": state.mass, "final_z": state.latents}


def _gated_state(inputs: Outputs, config: Mapping[str, Any], implementation: str | None) -> Outputs:
    """A state of rank R is the sum of R states of rank one, which decay alike."""
    total, state = 0.0, inputs.get("initial_s")
    for rank in range(1, config["rank"] + 1):
        y, state = gated_linear_attention(
            inputs["read"],
            inputs[f"write{rank}"],
            inputs[f"value{rank}"],
            log_decay=inputs["log_decay"],
            mask=inputs.get("mask"),
            initial_state=state if rank == 1 else None,
            implementation=implementation,
            return_state=True,
        )
        total = (y, state) if rank == 1 else jax.tree.map(jnp.add, total, (y, state))
    return {"out": total[0], "final_s": total[1]}


_CALLS: dict[str, Callable[[Outputs, Mapping[str, Any], str | None], Outputs]] = {
    "kernel/causal_flare_prefill": _flare,
    "kernel/causal_flare_forget": _flare,
    "kernel/causal_flare_block": _flare,
    "kernel/causal_flare_stablemax": _stablemax,
    "kernel/causal_gated_state": _gated_state,
}
