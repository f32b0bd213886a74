"""Compiled JAX programs: compiling many at once, what they need in memory, how long a call takes."""

import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.timing import adaptive_seconds
from benchmarks.worker import reason

# Below this, what the host does for every call would count: the call is repeated inside of one program.
SHORT_SECONDS = 2e-3
LOOP_SECONDS = 5e-3
MOST_ITERATIONS = 200
# After one of these every further call of the process fails.
FATAL = ("ILLEGAL", "illegal", "MISALIGNED", "misaligned", "LAUNCH_FAILED", "launch failure", "CUDA_ERROR_ASSERT")


class Program(NamedTuple):
    """A compiled program, or why there is none."""

    compiled: Any
    error: str = ""


def compile_all(jobs: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]]) -> list[Program]:
    """Trace the functions with their (abstract) arguments one after the other, compile them in parallel."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(_compile, [_lower(function, arguments) for function, arguments in jobs]))


def _lower(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    try:
        traced = jax.jit(function).trace(*arguments)
        # Compiling such a program would time matrix products that take most of the memory, beside other compilations.
        largest, limit = largest_bytes(traced.jaxpr.jaxpr), memory_limit()
        if limit is not None and largest > limit / 2:
            return Program(None, f"out of memory: one array takes {largest / 2**30:.0f} GiB of {limit / 2**30:.0f}")
        return traced.lower()
    except Exception as error:  # what a kernel cannot express shows here: a row of the table, no reason to stop
        return Program(None, reason(error))


def largest_bytes(jaxpr: Any) -> int:
    """Return the size of the largest array that a jaxpr computes."""
    sizes = [0]
    for equation in jaxpr.eqns:
        sizes += [x.aval.size * x.aval.dtype.itemsize for x in equation.outvars if hasattr(x.aval, "dtype")]
        for value in equation.params.values():
            for item in value if isinstance(value, (list, tuple)) else [value]:
                inner = getattr(item, "jaxpr", item)
                if hasattr(inner, "eqns"):
                    sizes.append(largest_bytes(inner))
    return max(sizes)


def memory_limit() -> int | None:
    """Return the bytes that programs can use on this device, None where they are not limited."""
    return (jax.devices()[0].memory_stats() or {}).get("bytes_limit")


def _compile(lowered: Any) -> Program:
    if isinstance(lowered, Program):
        return lowered
    try:
        return Program(lowered.compile())
    except Exception as error:  # too much shared memory, an autotuner without memory: likewise
        return Program(None, reason(error))


def needed_mebibytes(program: Program) -> float | None:
    """Return what a call holds at its peak: arguments, results and temporaries; None where unknown."""
    analysis = program.compiled.memory_analysis() if program.compiled else None
    if analysis is None:
        return None
    sizes = (analysis.argument_size_in_bytes, analysis.output_size_in_bytes, analysis.temp_size_in_bytes)
    return (sum(sizes) - analysis.alias_size_in_bytes) / 2**20


def too_large(program: Program) -> str:
    """Return why the program cannot run in the memory of the device, empty if it can."""
    limit, needed = memory_limit(), needed_mebibytes(program)
    if limit is None or needed is None or needed * 2**20 <= limit:
        return ""
    return f"out of memory: needs {needed / 2**10:.1f} GiB of {limit / 2**30:.1f}"


def call_seconds(program: Program, arguments: tuple[Any, ...], budget: float, ceiling: float = math.inf) -> float:
    """Return the median seconds of one call; one call has to do if it takes more than `ceiling`."""

    def sample(calls: int) -> float:
        begin = time.perf_counter()
        for _ in range(calls):
            result = None  # its memory is the next call's
            result = program.compiled(*arguments)
        jax.block_until_ready(result)
        return time.perf_counter() - begin

    return adaptive_seconds(sample, budget, ceiling=ceiling)


def loop(function: Callable[..., Any], iterations: int) -> Callable[..., Any]:
    """Return the program that calls `function` repeatedly, one call after the other.

    A barrier makes the arguments depend on a number that each turn changes and hands on, so that XLA can neither move
    work out of the loop nor leave it out. On a GPU it is taken away after scheduling, without a copy; on a CPU before,
    where the loop is therefore of no use.
    """

    def looped(*arguments: Any) -> Any:
        def step(turn: jax.Array, state: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
            after, number = jax.lax.optimization_barrier((arguments, state[1] + turn))
            return function(*after), number

        start = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, *arguments))
        return jax.lax.fori_loop(0, iterations, step, (start, jnp.int32(0)))

    return looped


def program_seconds(program: Program, function: Callable[..., Any], arguments: tuple[Any, ...], budget: float) -> float:
    """Return the median seconds of `function(*arguments)`, which `program` is compiled from."""
    seconds = call_seconds(program, arguments, budget)
    if seconds > SHORT_SECONDS or jax.default_backend() != "gpu":
        return seconds
    iterations = min(MOST_ITERATIONS, math.ceil(LOOP_SECONDS / seconds))
    (looped,) = compile_all([(loop(function, iterations), arguments)])
    if looped.compiled is None:
        raise RuntimeError(f"the loop around the call does not compile: {looped.error}")
    return call_seconds(looped, arguments, budget) / iterations


def is_fatal(error: str) -> bool:
    """Return whether the process cannot be used after this error."""
    return any(sign in error for sign in FATAL)
