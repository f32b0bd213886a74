"""Which launches of the causal linear attention kernels are fastest? Prints the rows of the table in dispatch.py.

`python -m benchmarks.search_causal_linear_attention --shape=long_d64 --dtype=bfloat16 [--implementation=triton]`: the
launch of each kernel is searched on its own with the other one fixed, then forward and forward+backward are timed.
"""

import argparse
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp

from benchmarks.timing import device_line, median_seconds, print_table, write_results
from kernels.causal_linear_attention.dispatch import Blocks, KernelBlocks, kernel_blocks
from kernels.causal_linear_attention.pallas import PallasBackend
from kernels.causal_linear_attention.recurrence import Backend, attend
from kernels.causal_linear_attention.shapes import SHAPES, AttentionShape
from kernels.causal_linear_attention.triton import TritonBackend

BACKENDS: dict[str, Callable[[KernelBlocks], Backend]] = {"pallas": PallasBackend, "triton": TritonBackend}
REPEATS = 20
CALLS = 10  # per repeat, so that one timing is much longer than a launch
COPY_BYTES_PER_SECOND = 2.7e12  # of an H100, read plus write


def inputs(shape: AttentionShape, dtype: str) -> tuple[jax.Array, ...]:
    """Return q, k, v and an initial state of zeros."""
    tokens = (shape.batch, shape.points, shape.heads)
    keys = jax.random.split(jax.random.key(0), 3)
    widths = (shape.width, shape.width, shape.channels)
    q, k, v = (jax.random.normal(key, (*tokens, width), dtype) for key, width in zip(keys, widths, strict=True))
    return q, k, v, jnp.zeros((shape.batch, shape.heads, shape.width, shape.channels), jnp.float32)


def seconds(function: Callable[..., object], arguments: tuple[jax.Array, ...]) -> float:
    """Return the median time of one call, infinite where the launch cannot be compiled or does not fit."""
    run = jax.jit(function)

    def calls() -> None:
        for _ in range(CALLS):
            result = run(*arguments)
        jax.block_until_ready(result)

    try:
        return median_seconds(calls, REPEATS) / CALLS
    except (jax.errors.JaxRuntimeError, ValueError, RuntimeError):
        return float("inf")


def run_sums(backend: Backend, q: jax.Array, k: jax.Array, v: jax.Array, state: jax.Array) -> jax.Array:
    """Run the first kernel."""
    return backend.outer_sums(k, v)


def run_forward(
    backend: Backend, q: jax.Array, k: jax.Array, v: jax.Array, state: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Run the forward."""
    return attend(backend, 1.0 / q.shape[1], q, k, v, state)


def run_both(backend: Backend, q: jax.Array, k: jax.Array, v: jax.Array, state: jax.Array) -> tuple[jax.Array, ...]:
    """Run forward and backward with v as the cotangent of the outputs."""
    (y, final), pull_back = jax.vjp(functools.partial(run_forward, backend), q, k, v, state)
    return y, *pull_back((v, jnp.zeros_like(final)))


def candidates(start: KernelBlocks, kernel: str, channels: int) -> Iterator[KernelBlocks]:
    """Yield the launches to try for one kernel."""
    columns = [x for x in (16, 32, 64, 128) if kernel == "mix" and x <= channels] or [getattr(start, kernel).columns]
    programs = (264, 396, 528, 792, 1056) if kernel == "mix" else (start.programs,)
    for choice in itertools.product((32, 64, 128), columns, (4, 8), (1, 2, 3), programs):
        points, width, warps, stages, count = choice
        yield dataclasses.replace(start, programs=count, **{kernel: Blocks(points, width, warps, stages)})


def search(backend: Callable[[KernelBlocks], Backend], arguments: tuple[jax.Array, ...]) -> KernelBlocks:
    """Return the fastest launches, searching the mixing kernel, then the sums with its number of programs."""
    q, v = arguments[0], arguments[2]
    name = "pallas" if backend is PallasBackend else "triton"
    best = kernel_blocks(name, q.dtype.name, max(q.shape[-1], v.shape[-1]))
    for kernel, run in (("mix", run_forward), ("sums", run_sums)):
        timed = []
        for blocks in candidates(best, kernel, v.shape[-1]):
            timed.append((seconds(functools.partial(run, backend(blocks)), arguments), blocks))
            print(f"{timed[-1][0] * 1e3:8.3f} ms  {blocks}", flush=True)
        best = min(timed, key=lambda pair: pair[0])[1]
    return best


def floor_milliseconds(shape: AttentionShape, dtype: str, reads_and_writes: tuple[int, int]) -> float:
    """Return the time to move the given numbers of arrays as wide as q and as v."""
    elements = reads_and_writes[0] * shape.width + reads_and_writes[1] * shape.channels
    return shape.batch * shape.points * shape.heads * elements * jnp.dtype(dtype).itemsize / COPY_BYTES_PER_SECOND * 1e3


def main() -> None:
    """Search one shape and print the row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="long_d64")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--implementation", choices=BACKENDS, default="pallas")
    parser.add_argument("--json", help="file for the results")
    options = parser.parse_args()
    if jax.default_backend() != "gpu":
        parser.error(f"the search needs an NVIDIA GPU, and this is a {jax.default_backend()}")
    shape = SHAPES[options.shape]
    arguments = inputs(shape, options.dtype)
    print(f"{device_line()}; {options.shape} {shape}, {options.dtype}, {options.implementation}")
    best = search(BACKENDS[options.implementation], arguments)
    backend = BACKENDS[options.implementation](best)
    forward = seconds(functools.partial(run_forward, backend), arguments) * 1e3
    both = seconds(functools.partial(run_both, backend), arguments) * 1e3
    print(f'("{options.dtype}", {max(shape.width, shape.channels)}, {best})')
    # Forward: k twice, q; v twice, y. Backward: the sums of q gᵀ, then dq, dk and dv with four arrays each.
    floors = [floor_milliseconds(shape, options.dtype, x) for x in ((3, 3), (10, 10))]
    print_table(
        ["work", "ms", "floor ms"],
        [
            ["forward", f"{forward:.3f}", f"{floors[0]:.3f}"],
            ["forward+backward", f"{both:.3f}", f"{floors[1]:.3f}"],
        ],
    )
    write_results(
        options.json, {"shape": options.shape, "blocks": str(best), "forward_ms": forward, "forward_backward_ms": both}
    )


if __name__ == "__main__":
    main()
