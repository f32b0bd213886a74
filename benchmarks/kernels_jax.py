"""Measures the implementations of an op in JAX; runs in the process of a `benchmarks.worker.Worker`.

Forward, and forward with backward, are compiled for all implementations at once. Memory is what XLA plans for a call:
arguments, results and temporaries.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks import mlp
from benchmarks.cases import Case, LayerShape, find_case
from benchmarks.programs import Program, compile_all, is_fatal, needed_mebibytes, program_seconds, too_large
from benchmarks.timing import device_line
from benchmarks.worker import reason
from flare_jax import params as model_params
from flare_jax.mixers.flare_attention import FlareAttention, FlareAttentionConfig
from flare_jax.parameter_keys import ParameterKeys
from kernels import (
    causal_flare,
    causal_linear_attention,
    flare_mixer,
    flarepp_mixer,
    gated_linear_attention,
    gather,
    platform,
    triple_attention,
)
from kernels._implementation import Request
from kernels._operation import Operation
from kernels._target import Target
from kernels.causal_flare.table import OPERATION as CAUSAL_FLARE
from kernels.causal_linear_attention.shapes import AttentionShape
from kernels.causal_linear_attention.table import GATED
from kernels.causal_linear_attention.table import OPERATION as CAUSAL_LINEAR
from kernels.flare_mixer.table import OPERATION as MIXER
from kernels.gather.table import OPERATION as GATHER
from kernels.residual_mlp.table import OPERATION as RESIDUAL_MLP
from kernels.triple_attention.table import OPERATION as TRIPLE

DIRECTIONS = ("forward", "both")


class Op(NamedTuple):
    """How to call an op: its operands, the call, and what an implementation (or None) stands for.

    `resolve` raises ValueError where the named implementation does not serve the case.
    """

    operands: Callable[[Case], tuple[Any, ...]]
    forward: Callable[[Case, str | None, tuple[Any, ...]], Any]
    resolve: Callable[[Case, str | None, tuple[Any, ...]], str]


def _normals(dtype: str, *shapes: tuple[int, ...]) -> tuple[jax.Array, ...]:
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return tuple(jax.random.normal(key, shape, dtype) for key, shape in zip(keys, shapes, strict=True))


def _mixer_operands(case: Case) -> tuple[jax.Array, ...]:
    shape = case.shape
    points = (shape.batch, shape.points, shape.heads, shape.width)
    return _normals(case.dtype, (shape.heads, shape.latents, shape.width), points, points)


def _flarepp_operands(case: Case) -> tuple[jax.Array, ...]:
    """Return q0, q_fixed, k0, k and v; the gate is a constant."""
    shape = case.shape
    latents, points = (shape.heads, shape.latents, shape.width), (shape.batch, shape.points, shape.heads, shape.width)
    return _normals(case.dtype, latents, latents, points, points, points)


def _flarepp(case: Case, implementation: str | None, operands: tuple[Any, ...]) -> jax.Array:
    q0, q_fixed, *points = operands
    gate = jnp.full(case.shape.heads, 0.5)
    return flarepp_mixer(q0, q_fixed, gate, *points, scale=case.shape.width**-0.5, implementation=implementation)


def _triple(case: Case, implementation: str | None, operands: tuple[Any, ...]) -> jax.Array:
    # Not 1/N: with this scale outputs are of order one.
    n_total = round(case.shape.points**0.5 * case.shape.width)
    return triple_attention(*operands, n_total=n_total, implementation=implementation)


def _triple_operands(case: Case) -> tuple[jax.Array, ...]:
    shape = case.shape
    return _normals(case.dtype, *[(shape.batch, shape.points, shape.heads, shape.width)] * 5)


def _causal_linear(case: Case, implementation: str | None, operands: tuple[Any, ...]) -> jax.Array:
    scale = (case.shape.points * case.shape.width) ** -0.5
    return causal_linear_attention(*operands, scale=scale, implementation=implementation)


def _causal_linear_operands(shape: AttentionShape, dtype: str) -> tuple[jax.Array, ...]:
    tokens = (shape.batch, shape.points, shape.heads)
    return _normals(dtype, (*tokens, shape.width), (*tokens, shape.width), (*tokens, shape.channels))


def _gated_linear(case: Case, implementation: str | None, operands: tuple[Any, ...]) -> jax.Array:
    log_decay, q, k, v = operands
    scale = case.shape.width**-0.5
    return gated_linear_attention(q, k, v, log_decay=log_decay, scale=scale, implementation=implementation)


def gated_linear_operands(shape: AttentionShape, dtype: str) -> tuple[jax.Array, ...]:
    """Return log decays of each channel as gated linear attention makes them at first, q, k and v."""
    q, k, v = _causal_linear_operands(shape, dtype)
    gate = jax.random.normal(jax.random.key(2), q.shape)
    return jax.nn.log_sigmoid(gate) / 16, q, k, v


def _mlp_setting(case: Case) -> mlp.Setting:
    arithmetic = "bf16" if case.dtype == "bfloat16" else "tf32"
    return mlp.Setting(case.shape.part, case.shape.rows, case.shape.channels, arithmetic)


def _mlp(case: Case, implementation: str | None, operands: tuple[Any, ...]) -> tuple[jax.Array, ...]:
    return mlp.apply(_mlp_setting(case), implementation, operands)


def _chosen(operation: Operation, implementation: str | None, request: Request) -> str:
    """Return the implementation that runs on this machine, or raise ValueError where the named one cannot."""
    return operation.resolve(implementation, request).on(Target.of(platform())).implementation


def _resolver(operation: Operation) -> Callable[[Case, str | None, tuple[Any, ...]], str]:
    """Return the function that resolves an op whose operands end in values `[B, N, H, D]`."""

    def resolve(case: Case, implementation: str | None, operands: tuple[Any, ...]) -> str:
        width, points = max(x.shape[-1] for x in operands), operands[-1].shape[1]
        return _chosen(operation, implementation, Request(case.dtype, width, points))

    return resolve


def _resolve_mlp(case: Case, implementation: str | None, operands: tuple[Any, ...]) -> str:
    setting = _mlp_setting(case)
    branches = 2 if setting.op == "branches" else 1
    request = Request(setting.arithmetic, setting.channels, setting.rows * branches)
    return _chosen(RESIDUAL_MLP, implementation, request)


def make_layer(shape: LayerShape, dtype: str, implementation: str | None) -> FlareAttention:
    """Return a FLARE layer whose mixer is `implementation`; with "xla" its MLPs are plain XLA as well."""
    return FlareAttention(
        shape.channels,
        FlareAttentionConfig(
            num_heads=shape.heads,
            num_latents=shape.latents,
            implementation=implementation,
            mlp_implementation="reference" if implementation == "xla" else None,
        ),
        dtype=dtype,
        rngs=ParameterKeys(0),
    )


def _layer_operands(case: Case) -> tuple[Any, ...]:
    shape = case.shape
    _, parameters = model_params.split(make_layer(shape, case.dtype, None))
    return parameters, *_normals(case.dtype, (shape.batch, shape.points, shape.channels))


def _layer(case: Case, implementation: str | None, operands: tuple[Any, ...]) -> jax.Array:
    layer = nnx.eval_shape(functools.partial(make_layer, case.shape, case.dtype, implementation))
    graphdef, _ = model_params.split(layer)
    return model_params.apply_fn(graphdef)(*operands)


def _resolve_layer(case: Case, implementation: str | None, operands: tuple[Any, ...]) -> str:
    width = case.shape.channels // case.shape.heads
    return _chosen(MIXER, implementation, Request(case.dtype, width, case.shape.points))


OPS = {
    "flare_mixer": Op(
        _mixer_operands,
        lambda case, name, operands: flare_mixer(*operands, implementation=name),
        _resolver(MIXER),
    ),
    "gather": Op(
        lambda case: _mixer_operands(case)[:2],
        lambda case, name, operands: gather(*operands, implementation=name),
        _resolver(GATHER),
    ),
    "flarepp_mixer": Op(_flarepp_operands, _flarepp, _resolver(GATHER)),
    "flare_layer": Op(_layer_operands, _layer, _resolve_layer),
    "triple_attention": Op(
        _triple_operands,
        _triple,
        _resolver(TRIPLE),
    ),
    "causal_linear_attention": Op(
        lambda case: _causal_linear_operands(case.shape, case.dtype),
        _causal_linear,
        _resolver(CAUSAL_LINEAR),
    ),
    "gated_linear_attention": Op(
        lambda case: gated_linear_operands(case.shape, case.dtype),
        _gated_linear,
        _resolver(GATED),
    ),
    "causal_flare": Op(
        _mixer_operands,
        lambda case, name, operands: causal_flare(*operands, implementation=name),
        _resolver(CAUSAL_FLARE),
    ),
    "residual_mlp": Op(lambda case: mlp.make_arrays(_mlp_setting(case))["operands"], _mlp, _resolve_mlp),
}


@dataclass(frozen=True)
class Call:
    """One direction of one implementation as a function of (operands, cotangents)."""

    op: Op
    case: Case
    implementation: str
    direction: str

    def __call__(self, operands: tuple[Any, ...], cotangents: Any) -> Any:
        forward = functools.partial(self.op.forward, self.case, self.implementation)
        if self.direction == "forward":
            return forward(operands)
        outputs, pull_back = jax.vjp(forward, operands)
        return outputs, pull_back(cotangents)


def make_arguments(op: Op, case: Case) -> tuple[tuple[Any, ...], Any]:
    """Return random operands and output cotangents."""
    operands = op.operands(case)
    outputs = jax.eval_shape(functools.partial(op.forward, case, None), operands)
    leaves, structure = jax.tree.flatten(outputs)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    values = [jax.random.normal(key, x.shape, x.dtype) for key, x in zip(keys, leaves, strict=True)]
    return operands, structure.unflatten(values)


def handle(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Measure the implementations `request["names"]` of the case {"op", "shape", "dtype"}, `budget` seconds a number.

    An answer has "forward" and "both", each {"seconds", "mebibytes"} or {"error"}, or else "unserved".
    """
    case = find_case(request["op"], request["shape"], request["dtype"])
    op = OPS[case.op]
    specs = jax.eval_shape(functools.partial(make_arguments, op, case))
    default = op.resolve(case, None, specs[0])
    unserved = {name: _why_unserved(op, case, name, specs[0]) for name in request["names"]}
    calls = [Call(op, case, name, way) for name in request["names"] if not unserved[name] for way in DIRECTIONS]
    programs = dict(zip(calls, compile_all([(call, specs) for call in calls]), strict=True))
    arguments = jax.jit(functools.partial(make_arguments, op, case))()
    for name in request["names"]:
        answer = {"name": name, "device": device_line(), "default": name == default}
        if unserved[name]:
            yield {**answer, "unserved": unserved[name]}
            continue
        results = {
            way: _measure(Call(op, case, name, way), programs[Call(op, case, name, way)], arguments, request["budget"])
            for way in DIRECTIONS
        }
        fatal = any(is_fatal(result.get("error", "")) for result in results.values())
        yield {**answer, **results, **({"fatal": True} if fatal else {})}


def _why_unserved(op: Op, case: Case, name: str, operands: tuple[Any, ...]) -> str:
    try:
        op.resolve(case, name, operands)
    except ValueError as error:
        return str(error)
    return ""


def _measure(call: Call, program: Program, arguments: tuple[Any, ...], budget: float) -> dict[str, Any]:
    """Return time and memory of one program, or why there are none."""
    mebibytes = needed_mebibytes(program)
    error = program.error or too_large(program)
    if error:
        return {"error": error, "mebibytes": mebibytes}
    try:
        seconds = program_seconds(program, call, arguments, budget)
    except Exception as failure:  # out of memory or a kernel that fails when it runs: a row of the table
        return {"error": reason(failure), "mebibytes": mebibytes}
    return {"seconds": seconds, "mebibytes": mebibytes}
