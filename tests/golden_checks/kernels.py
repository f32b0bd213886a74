"""Golden files of single kernels: outputs and the gradients of all float inputs, relative to the largest entry."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernels import causal_flare, causal_linear_attention, flare_mixer, flarepp_mixer, gather, triple_attention
from tests.golden_checks.core import Comparison, gradient_size, largest_entry, largest_error

Arrays = Mapping[str, np.ndarray]

# Float32 rounding for logits up to 20; an error of the logits grows with their size, and so does the tolerance.
TOLERANCE = 2e-5
LOGIT_OF_TOLERANCE = 20.0


def check(arrays: Arrays, config: Mapping[str, Any], implementation: str | None = None) -> list[Comparison]:
    """Compare the kernel that `config` names with the outputs and gradients of the file."""
    kind = config["kind"]
    if kind not in CHECKS:
        raise ValueError(f"there is no check for files of kind {kind!r}; known are {', '.join(CHECKS)}")
    return [_judged(comparison, arrays) for comparison in CHECKS[kind](arrays, config, implementation)]


def _judged(comparison: Comparison, arrays: Arrays) -> Comparison:
    """Return a comparison whose error is relative to the terms of a gradient where these cancel."""
    expected = arrays.get(f"grad_input/{comparison.name}")
    if comparison.kind != "gradient" or expected is None:
        return comparison
    pairs = [
        (arrays[key], arrays[gradient + key.partition("/")[2]])
        for value, gradient in (("output/", "cotangent/"), ("input/", "grad_input/"))
        for key in arrays
        if key.startswith(value) and gradient + key.partition("/")[2] in arrays
    ]
    size = gradient_size(expected, arrays[f"input/{comparison.name}"], pairs)
    return replace(comparison, error=comparison.error * _size(expected) / max(size, _size(expected)))


def _check_flare_mixer(arrays: Arrays, config: Mapping[str, Any], implementation: str | None) -> list[Comparison]:
    mask = arrays.get("input/mask")
    names = ("q", "k", "v")
    # Files hold points as [B, H, N, D], the kernels take [B, N, H, D].
    inputs = [_swap_heads(arrays[f"input/{name}"], name) for name in names]

    def mix(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        return flare_mixer(
            q,
            k,
            v,
            scale=config["scale"],
            mask=None if mask is None else jnp.asarray(mask),
            implementation=implementation,
            return_latents=True,
        )

    (y, z), gradients = _outputs_and_gradients(mix, inputs, _swap_heads(arrays["cotangent/y"], "y"))
    largest_logit = config["scale"] * np.max(np.abs(np.einsum("hmd,bhnd->bhmn", arrays["input/q"], arrays["input/k"])))
    tolerance = TOLERANCE * max(1.0, largest_logit / LOGIT_OF_TOLERANCE)
    outputs = {"y": _swap_heads(y, "y"), "z": z}
    compared = [_compare(name, "output", outputs[name], arrays[f"output/{name}"], tolerance) for name in ("y", "z")]
    for name, gradient in zip(names, gradients, strict=True):
        gradient = _swap_heads(gradient, name)
        compared.append(_compare(name, "gradient", gradient, arrays[f"grad_input/{name}"], tolerance))
    return compared


def _check_gather(arrays: Arrays, config: Mapping[str, Any], implementation: str | None) -> list[Comparison]:
    mask, names = arrays.get("input/mask"), [name for name in ("q", "k", "v") if f"input/{name}" in arrays]

    def read(*inputs: jax.Array) -> tuple[jax.Array]:
        arguments = dict(zip(names, inputs, strict=True))
        mask_ = None if mask is None else jnp.asarray(mask)
        return (gather(**arguments, scale=config["scale"], mask=mask_, implementation=implementation),)

    inputs = [_swap_heads(arrays[f"input/{name}"], name) for name in names]
    (z,), gradients = _outputs_and_gradients(read, inputs, jnp.asarray(arrays["cotangent/z"]))
    tolerance = _measured_tolerance(config)
    compared = [_compare("z", "output", z, arrays["output/z"], tolerance("output/z"))]
    return compared + _compare_gradients(names, gradients, arrays, tolerance, _swap_heads)


def _check_flarepp_mixer(arrays: Arrays, config: Mapping[str, Any], implementation: str | None) -> list[Comparison]:
    mask = arrays.get("input/mask")
    names = [name for name in ("q0", "q_fixed", "gate", "k0", "v0", "k", "v") if f"input/{name}" in arrays]

    def orient(x: Any, name: str) -> jax.Array:
        return jnp.asarray(x) if name in ("q0", "q_fixed", "gate") else _swapped(x)

    def mix(*inputs: jax.Array) -> tuple[jax.Array, ...]:
        arguments = dict(zip(names, inputs, strict=True))
        mask_ = None if mask is None else jnp.asarray(mask)
        y, latents = flarepp_mixer(
            **arguments, scale=config["scale"], mask=mask_, implementation=implementation, return_latents=True
        )
        return y, *latents

    inputs = [orient(arrays[f"input/{name}"], name) for name in names]
    (y, *latents), gradients = _outputs_and_gradients(mix, inputs, orient(arrays["cotangent/y"], "y"))
    tolerance = _measured_tolerance(config)
    compared = [_compare("y", "output", orient(y, "y"), arrays["output/y"], tolerance("output/y"))]
    for name, actual in zip(("q_dynamic", "q", "z"), latents, strict=True):
        compared.append(_compare(name, "output", actual, arrays[f"output/{name}"], tolerance(f"output/{name}")))
    return compared + _compare_gradients(names, gradients, arrays, tolerance, orient)


def _compare_gradients(
    names: list[str],
    gradients: tuple[jax.Array, ...],
    arrays: Arrays,
    tolerance: Callable[[str], float],
    orient: Callable[[Any, str], jax.Array],
) -> list[Comparison]:
    keys = [f"grad_input/{name}" for name in names]
    return [
        _compare(name, "gradient", orient(gradient, name), arrays[key], tolerance(key))
        for name, gradient, key in zip(names, gradients, keys, strict=True)
    ]


def _measured_tolerance(config: Mapping[str, Any]) -> Callable[[str], float]:
    """Return the tolerance of each array: that of the largest logit, or ten times the file's own float32 error."""
    largest = config["max_abs_logit"]
    largest = max(largest.values()) if isinstance(largest, Mapping) else largest
    common = TOLERANCE * max(1.0, largest / LOGIT_OF_TOLERANCE)
    return lambda key: max(common, 10 * config["fp32_rel_error"][key])


def _check_causal_flare(arrays: Arrays, config: Mapping[str, Any], implementation: str | None) -> list[Comparison]:
    # Files name the read operands q_dec and k_dec, and the state mu, d and u.
    names = [name for name in ("q", "k", "v", "q_dec", "k_dec") if f"input/{name}" in arrays]

    def orient(name: str, x: Any) -> jax.Array:
        return jnp.asarray(x) if name in ("q", "q_dec") else _swapped(x)

    def mix(*inputs: jax.Array) -> tuple[jax.Array, ...]:
        arguments = {name.replace("dec", "decode"): x for name, x in zip(names, inputs, strict=True)}
        y, state = causal_flare(**arguments, scale=config["scale"], implementation=implementation, return_state=True)
        return y, *state

    inputs = [orient(name, arrays[f"input/{name}"]) for name in names]
    (y, *state), gradients = _outputs_and_gradients(mix, inputs, orient("out", arrays["cotangent/out"]))
    largest_logit = config["scale"] * np.max(np.abs(np.einsum("hmd,bhnd->bhmn", arrays["input/q"], arrays["input/k"])))
    tolerance = TOLERANCE * max(1.0, largest_logit / LOGIT_OF_TOLERANCE)
    compared = [_compare("out", "output", orient("out", y), arrays["output/out"], tolerance)]
    for name, actual in zip(("final_mu", "final_d", "final_u"), state, strict=True):
        compared.append(_compare(name, "output", actual, arrays[f"output/{name}"], tolerance))
    for name, gradient in zip(names, gradients, strict=True):
        compared.append(_compare(name, "gradient", orient(name, gradient), arrays[f"grad_input/{name}"], tolerance))
    return compared


def _check_causal_linear(arrays: Arrays, config: Mapping[str, Any], implementation: str | None) -> list[Comparison]:
    names = ("q", "k", "v")

    def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        return causal_linear_attention(q, k, v, implementation=implementation, return_state=True)

    inputs = [_swapped(arrays[f"input/{name}"]) for name in names]
    cotangent = _swapped(arrays["cotangent/out"])
    (y, state), gradients = _outputs_and_gradients(attend, inputs, cotangent)
    compared = [
        _compare("out", "output", _swapped(y), arrays["output/out"], TOLERANCE),
        _compare("final_state", "output", state, arrays["output/final_state"], TOLERANCE),
    ]
    for name, gradient in zip(names, gradients, strict=True):
        expected = arrays[f"grad_input/{name}"]
        compared.append(_compare(name, "gradient", _swapped(gradient), expected, TOLERANCE))
    return compared


def _check_triple_attention(arrays: Arrays, config: Mapping[str, Any], implementation: str | None) -> list[Comparison]:
    names = ("q1", "q2", "k1", "k2", "v")

    @jax.jit
    def evaluate(*inputs: jax.Array) -> tuple[Any, Any]:
        def attend(*inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
            return triple_attention(*inputs, implementation=implementation, return_state=True)

        (y, state), pull_back = jax.vjp(attend, *inputs)
        d_state = arrays.get("cotangent/state", np.zeros(state.shape, np.float32))
        return (y, state), pull_back((_swapped(arrays["cotangent/out"]), jnp.asarray(d_state)))

    (y, state), gradients = evaluate(*(_swap_heads(arrays[f"input/{name}"], name) for name in names))
    outputs = {"out": _swap_heads(y, "out"), "state": state, "state_corner": state[..., :8, :8, :8]}
    compared = [
        _compare(name, "output", value, arrays[f"output/{name}"], TOLERANCE)
        for name, value in outputs.items()
        if f"output/{name}" in arrays
    ]
    for name, gradient in zip(names, gradients, strict=True):
        gradient = _swap_heads(gradient, name)
        compared.append(_compare(name, "gradient", gradient, arrays[f"grad_input/{name}"], TOLERANCE))
    return compared


def _outputs_and_gradients(
    function: Callable[..., tuple[jax.Array, ...]], inputs: list[jax.Array], cotangent: jax.Array
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
    """Return all outputs, and the gradients of the first one times its cotangent for every input."""

    @jax.jit
    def evaluate(*inputs: jax.Array) -> tuple[Any, Any]:
        outputs, pull_back = jax.vjp(function, *inputs)
        rest = [jnp.zeros_like(x) for x in outputs[1:]]
        return outputs, pull_back((cotangent.astype(outputs[0].dtype), *rest))

    return evaluate(*inputs)


def _swap_heads(x: Any, name: str) -> jax.Array:
    """Exchange the axes of heads and points; latents `q` have no axis of points."""
    return jnp.asarray(x) if name == "q" else _swapped(x)


def _swapped(x: Any) -> jax.Array:
    """Exchange the second and third axis, by numpy, which compiles nothing."""
    return jnp.asarray(np.swapaxes(np.asarray(x), 1, 2))


def _compare(name: str, kind: str, actual: Any, expected: np.ndarray, tolerance: float) -> Comparison:
    return Comparison(name, kind, largest_error(actual, expected) / _size(expected), tolerance)


def _size(array: np.ndarray) -> float:
    return max(largest_entry(array), np.finfo(np.float32).tiny)


CHECKS: dict[str, Callable[[Arrays, Mapping[str, Any], str | None], list[Comparison]]] = {
    "kernel/causal_flare": _check_causal_flare,
    "kernel/causal_linear_attention": _check_causal_linear,
    "kernel/flare_mixer": _check_flare_mixer,
    "kernel/flarepp_mixer": _check_flarepp_mixer,
    "kernel/gather": _check_gather,
    "kernel/triple_attention": _check_triple_attention,
}
