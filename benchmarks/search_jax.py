"""Times and checks launches for `benchmarks.search`; runs in the process of a `benchmarks.worker.Worker`."""

import functools
import math
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import (
    search_causal_flare,
    search_causal_linear_attention,
    search_flare_mixer,
    search_gated_linear_attention,
    search_gather,
    search_residual_mlp,
    search_triple_attention,
)
from benchmarks.cases import SHAPES
from benchmarks.programs import (
    LOOP_SECONDS,
    Program,
    call_seconds,
    compile_all,
    is_fatal,
    loop,
    program_seconds,
)
from benchmarks.timing import device_line
from benchmarks.worker import reason

SPACES: dict[str, ModuleType] = {
    "flare_mixer": search_flare_mixer,
    "gather": search_gather,
    "residual_mlp": search_residual_mlp,
    "triple_attention": search_triple_attention,
    "causal_linear_attention": search_causal_linear_attention,
    "gated_linear_attention": search_gated_linear_attention,
    "causal_flare": search_causal_flare,
}
MOST_ITERATIONS = 64
BUDGET_SECONDS, WHOLE_BUDGET_SECONDS = 0.05, 0.3
# A launch this much slower than the best so far is called once.
HOPELESS = 1.5
# Launches are checked on this many points, a number that no tile divides, or on fewer, down to so many, where the
# definition does not fit into the memory.
CHECKED_POINTS, FEWEST_CHECKED_POINTS = 3001, 99
# Whole launches are compared with this implementation, whose memory is O(N) as well.
PEER = "xla"


def make_shape(op: str, sizes: list[int]) -> Any:
    """Return the op's shape type with these sizes."""
    return type(next(iter(SHAPES[op].values())))(*sizes)


@functools.lru_cache(maxsize=1)
def make_bench(op: str, sizes: tuple[int, ...], dtype: str, implementation: str) -> Any:
    """Return the inputs of one case; those of the case before are dropped."""
    return SPACES[op].Bench(make_shape(op, list(sizes)), dtype, implementation)


def handle(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Do `request["task"]` for the launches `request["candidates"]`, by name, of {op, sizes, dtype, implementation}.

    "time" answers "seconds" of `request["kernel"]` alone; "check" the "rms" error of the whole op against its
    definition on few points; "whole" the seconds "forward" and "both" and the "rms" error at the full size.
    """
    space = SPACES[request["op"]]
    case = (request["op"], tuple(request["sizes"]), request["dtype"], request["implementation"])
    bench = make_bench(*case)
    names = request["names"]
    launches = [space.parse_blocks(request["candidates"][name]) for name in names]
    task = {"time": _time, "check": _check, "whole": _whole}[request["task"]]
    for name, answer in zip(names, task(bench, case, request, launches), strict=True):
        fatal = {"fatal": True} if is_fatal(answer.get("error", "")) else {}
        yield {"name": name, "device": device_line(), **answer, **fatal}


def _time(bench: Any, case: tuple, request: dict[str, Any], launches: list[Any]) -> Iterator[dict[str, Any]]:
    kernel, best = request["kernel"], math.inf if request["best"] is None else request["best"]
    iterations = _iterations(case, kernel)
    jobs = []
    for blocks in launches:
        function, arguments = bench.program(kernel, blocks)
        jobs.append((loop(function, iterations) if iterations > 1 else function, arguments))
    for program, (_, arguments) in zip(compile_all(jobs), jobs, strict=True):
        answer = _run(program, arguments, BUDGET_SECONDS, HOPELESS * best * iterations)
        if "seconds" in answer:
            answer["seconds"] /= iterations
            best = min(best, answer["seconds"])
        yield answer


@functools.lru_cache(maxsize=4)
def _iterations(case: tuple, kernel: str) -> int:
    """Return how often a program repeats the kernel, from the time that the launch of the table takes."""
    if jax.default_backend() != "gpu":
        return 1
    op, sizes, dtype, implementation = case
    blocks = SPACES[op].table(make_shape(op, list(sizes)), dtype, implementation)
    function, arguments = make_bench(*case).program(kernel, blocks)
    (program,) = compile_all([(function, arguments)])
    seconds = _run(program, arguments, BUDGET_SECONDS, math.inf).get("seconds", math.inf)
    # Enough that what the host does for a call does not count where a launch is called once.
    return max(1, min(MOST_ITERATIONS, math.ceil(LOOP_SECONDS / seconds)))


def _run(program: Program, arguments: tuple[Any, ...], budget: float, ceiling: float) -> dict[str, Any]:
    if program.error:
        return {"error": program.error}
    try:
        return {"seconds": call_seconds(program, arguments, budget, ceiling)}
    except Exception as failure:  # a launch that cannot run is no answer, but no reason to stop
        return {"error": reason(failure)}


def _both(bench: Any, blocks: Any, operands: tuple[jax.Array, ...], dy: jax.Array) -> tuple[jax.Array, Any]:
    """Return outputs and gradients."""
    y, pull_back = jax.vjp(bench.call(blocks), operands)
    return y, pull_back(dy)


def _rms(actual: Any, expected: Any) -> jax.Array:
    """Return the largest ratio ‖a − b‖ / ‖b‖ of all arrays; NaN stays NaN."""

    def ratio(a: jax.Array, b: jax.Array) -> jax.Array:
        a, b = a.astype(jnp.float32), b.astype(jnp.float32)
        return jnp.linalg.norm((a - b).ravel()) / jnp.linalg.norm(b.ravel())

    return jnp.max(jnp.stack(jax.tree.leaves(jax.tree.map(ratio, actual, expected))))


def _expected(program: Program, arguments: tuple[Any, ...]) -> tuple[Any, str]:
    """Return what a program gives that launches are compared with, and why it gives nothing, empty if it does."""
    if program.error:
        return None, f"nothing to compare with: {program.error}"
    try:
        return jax.block_until_ready(program.compiled(*arguments)), ""
    except Exception as failure:  # as in `_run`
        return None, f"nothing to compare with: {reason(failure)}"


def _error(program: Program, arguments: tuple[Any, ...], expected: Any, missing: str) -> dict[str, Any]:
    """Return the error of a program that computes outputs and gradients; `missing` says why nothing is expected."""
    if program.error or missing:
        return {"error": program.error or missing}
    try:
        return {"rms": float(jax.jit(_rms)(program.compiled(*arguments), expected))}
    except Exception as failure:  # as in `_run`
        return {"error": reason(failure)}


def _arguments(bench: Any, points: int) -> tuple[Any, ...]:
    """Return operands for this many points, and a cotangent."""
    operands = bench.operands(points)
    y = jax.eval_shape(bench.call("reference"), operands)
    return operands, jax.random.normal(jax.random.key(2), y.shape, y.dtype)


def _check(bench: Any, case: tuple, request: dict[str, Any], launches: list[Any]) -> Iterator[dict[str, Any]]:
    points = min(CHECKED_POINTS, bench.shape.points)
    arguments, expected, missing = _definition(bench, points)
    while missing and points > FEWEST_CHECKED_POINTS:
        points = points // 4 * 2 + 1  # about half, and odd
        arguments, expected, missing = _definition(bench, points)
    programs = compile_all([(functools.partial(_both, bench, blocks), arguments) for blocks in launches])
    yield from (_error(program, arguments, expected, missing) for program in programs)


def _definition(bench: Any, points: int) -> tuple[tuple[Any, ...], Any, str]:
    """Return inputs of so many points, what the definition gives for them, and why it gives nothing."""
    arguments = _arguments(bench, points)
    (program,) = compile_all([(functools.partial(_both, bench, "reference"), arguments)])
    return arguments, *_expected(program, arguments)


def _whole(bench: Any, case: tuple, request: dict[str, Any], launches: list[Any]) -> Iterator[dict[str, Any]]:
    arguments = _arguments(bench, bench.shape.points)
    both = [functools.partial(_both, bench, blocks) for blocks in launches]
    forward = [bench.call(blocks) for blocks in launches]
    jobs = [(x, arguments) for x in (functools.partial(_both, bench, getattr(SPACES[case[0]], "PEER", PEER)), *both)]
    peer, *programs = compile_all([*jobs, *((x, arguments[:1]) for x in forward)])
    expected, missing = _expected(peer, arguments)
    errors = [_error(program, arguments, expected, missing) for program in programs[: len(both)]]
    del expected
    for i, error in enumerate(errors):
        answer = {**error}
        for way, function, program, given in (
            ("forward", forward[i], programs[len(both) + i], arguments[:1]),
            ("both", both[i], programs[i], arguments),
        ):
            try:
                answer[way] = program_seconds(program, function, given, WHOLE_BUDGET_SECONDS)
            except Exception as failure:  # as in `_run`; without a program there is the reason for that
                answer["error"] = program.error or reason(failure)
        yield answer
