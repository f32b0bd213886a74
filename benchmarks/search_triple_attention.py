"""Which launch of each kernel of triple attention is fastest on this GPU, and how far is the whole from its floor?

    python -m benchmarks.search_triple_attention --shape points_500k_d32 --dtype bfloat16
    python -m benchmarks.search_triple_attention --sizes 1 65536 8 64 --implementation triton --kernel pair --seconds 90

First it times forward and forward + backward with the launches of the table in kernels/triple_attention/dispatch.py,
beside the floors that arithmetic and memory set. Then, for each kernel, it times the launch of the table, tile sides
and warps, and at last programs, stages and float32 products around the two best, until `--seconds` are over. It prints
every launch it tried with its time, and last what to put into the table.
"""

import argparse
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.timing import device_line, median_seconds, print_table
from kernels import triple_attention
from kernels.triple_attention.contractions import Contractions, Operands
from kernels.triple_attention.dispatch import Blocks, KernelBlocks, kernel_blocks
from kernels.triple_attention.pallas import PallasContractions
from kernels.triple_attention.shapes import SHAPES, TripleShape
from kernels.triple_attention.tiling import next_power_of_2, padded
from kernels.triple_attention.triton import TritonContractions

CONTRACTIONS = {"pallas": PallasContractions, "triton": TritonContractions}
# One H100: products of bfloat16, and of float32 as three of TF32; bytes of memory per second.
PEAK_FLOPS = {"bfloat16": 989e12, "float32": 494e12 / 3}
PEAK_BYTES = 3.35e12

Run = Callable[[Contractions, Operands, jax.Array], Any]
RUNS: dict[str, Run] = {
    "accumulate": lambda c, x, state: c.accumulate(x.k1, x.k2, x.v),
    "read": lambda c, x, state: c.read(x.q1, x.q2, state),
    "pair": lambda c, x, state: c.pair(x.v, x.q1, x.q2, state),
}


def make_operands(shape: TripleShape, dtype: str) -> Operands:
    """Return random operands."""
    sizes = (shape.batch, shape.points, shape.heads, shape.width)
    return Operands(*(jax.random.normal(key, sizes, dtype) for key in jax.random.split(jax.random.key(0), 5)))


def floors(shape: TripleShape, dtype: str, contractions: int, arrays: int) -> tuple[float, float]:
    """Return the seconds that products and memory traffic take at least.

    `arrays` counts the `[B, N, H, D]` arrays that are read or written.
    """
    points = shape.batch * shape.points * shape.heads
    flops = 2 * points * shape.width**3 * contractions
    return flops / PEAK_FLOPS[dtype], arrays * points * shape.width * jnp.dtype(dtype).itemsize / PEAK_BYTES


def print_totals(operands: Operands, shape: TripleShape, dtype: str, implementations: Iterable[str]) -> None:
    """Time forward and forward + backward of each implementation with the table's launches."""

    def forward(operands: Operands, implementation: str) -> jax.Array:
        return triple_attention(*operands, implementation=implementation)

    def backward(operands: Operands, implementation: str) -> Operands:
        y, pull_back = jax.vjp(lambda x: forward(x, implementation), operands)
        return pull_back(y)[0]

    rows = []
    for name, function, contractions, arrays in (("forward", forward, 2, 6), ("both", backward, 6, 22)):
        arithmetic, memory = floors(shape, dtype, contractions, arrays)
        for implementation in implementations:
            run = jax.jit(function, static_argnums=1)
            seconds = median_seconds(lambda: jax.block_until_ready(run(operands, implementation)), repeats=9, warmup=2)
            cells = [f"{1e3 * t:.2f}" for t in (seconds, arithmetic, memory)]
            rows.append((name, implementation, *cells, f"{max(arithmetic, memory) / seconds:.0%}"))
    print_table(("pass", "implementation", "ms", "arithmetic floor", "memory floor", "of the floor"), rows)


def launch_seconds(kernel: str, contractions: Contractions, operands: Operands, state: jax.Array) -> float:
    """Return the median time of one launch with the small operations around it."""
    run = jax.jit(lambda operands, state: RUNS[kernel](contractions, operands, state))
    return median_seconds(lambda: jax.block_until_ready(run(operands, state)), repeats=7)


def tile_candidates(kernel: str, default: Blocks, shape: TripleShape) -> Iterable[Blocks]:
    """Yield the default, then other tiles and warps whose accumulators fit into the registers."""
    yield default
    side = padded(shape.width)
    slices = [n for n in (1, 2, 4, 8, 16, 32) if n <= next_power_of_2(shape.width)]
    rows = [n for n in (16, 32, 64, 128, 256) if n <= padded(shape.points)]
    candidates = []
    for row, count, warps in itertools.product(rows, slices, (4, 8)):
        accumulators = (count * side if kernel == "accumulate" else row) * (
            side if kernel == "accumulate" else count * side
        )
        if 16 <= accumulators // (32 * warps) <= 160:
            candidates.append(replace(default, rows=row, slices=count, warps=warps))
    candidates.sort(key=lambda b: abs(math.log2(b.rows / default.rows)) + abs(math.log2(b.slices / default.slices)))
    yield from candidates


def launch_candidates(kernel: str, best: Iterable[Blocks], dtype: str) -> Iterable[Blocks]:
    """Yield variations of programs (of the accumulation), stages and, for float32, products."""
    for blocks in best:
        for programs in (132, 264, 528, 1056, 2112) if kernel == "accumulate" else ():
            yield replace(blocks, programs=programs)
        for stages in (1, 2, 3, 4):
            yield replace(blocks, stages=stages)
        if dtype == "float32":
            yield replace(blocks, exact="ieee")


def search(
    kernel: str,
    make: Callable[[Blocks], Contractions],
    default: Blocks,
    inputs: tuple[Operands, jax.Array],
    shape: TripleShape,
    seconds: float,
) -> dict[Blocks, float]:
    """Return the time of every launch tried within `seconds`; infinity for those that do not compile or run."""
    times: dict[Blocks, float] = {}
    deadline = time.monotonic() + seconds

    def try_all(candidates: Iterable[Blocks], until: float) -> None:
        for blocks in candidates:
            if time.monotonic() > until and times:
                return
            if blocks in times:
                continue
            try:
                times[blocks] = launch_seconds(kernel, make(blocks), *inputs)
            except Exception as error:  # too much shared memory: not an answer, but no reason to stop
                times[blocks] = float("inf")
                print(f"{kernel} {blocks}: {type(error).__name__}", file=sys.stderr)

    try_all(tile_candidates(kernel, default, shape), deadline - 0.4 * seconds)
    best = sorted(times, key=times.get)[:2]
    try_all(launch_candidates(kernel, best, inputs[0].v.dtype.name), deadline)
    return times


def print_times(title: str, times: dict[Blocks, float], default: Blocks) -> None:
    """Print the launches from fastest to slowest, beside the one of the table."""
    rows = [
        (b.rows, b.slices, b.warps, b.stages, b.programs, b.exact, f"{1e6 * t:.1f}", f"{t / times[default]:.2f}")
        for b, t in sorted(times.items(), key=lambda item: item[1])
    ]
    print(f"\n{title}: the table's launch takes {1e6 * times[default]:.1f} us")
    print_table(("rows", "slices", "warps", "stages", "programs", "exact", "us", "ratio"), rows)


def main(arguments: list[str]) -> int:
    """Search the kernels named on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.search_triple_attention", description=__doc__.splitlines()[0]
    )
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--shape", choices=SHAPES, default="points_500k_d32")
    sizes.add_argument("--sizes", type=int, nargs=4, metavar=("BATCH", "POINTS", "HEADS", "WIDTH"))
    parser.add_argument("--dtype", choices=tuple(PEAK_FLOPS), default="bfloat16")
    parser.add_argument("--implementation", choices=CONTRACTIONS, nargs="+", default=["pallas"])
    parser.add_argument("--kernel", choices=RUNS, nargs="*", default=list(RUNS), help="none: only the totals")
    parser.add_argument("--seconds", type=float, default=60.0, help="time for each kernel and implementation")
    options = parser.parse_args(arguments)
    shape = TripleShape(*options.sizes) if options.sizes else SHAPES[options.shape]
    print(f"{device_line()}; {shape}, {options.dtype}")
    operands = make_operands(shape, options.dtype)
    table = kernel_blocks(operands)
    print_totals(operands, shape, options.dtype, options.implementation)
    state = jax.random.normal(jax.random.key(1), (shape.batch, shape.heads, *[shape.width] * 3))
    best: dict[str, dict[str, Blocks]] = {}
    for implementation, kernel in itertools.product(options.implementation, options.kernel):

        def make(blocks: Blocks) -> Contractions:
            return CONTRACTIONS[implementation](replace(table, **{kernel: blocks}))

        default = getattr(table, kernel)
        times = search(kernel, make, default, (operands, state), shape, options.seconds)
        print_times(f"{implementation} {kernel}", times, default)
        best.setdefault(implementation, {})[kernel] = min(times, key=times.get)
    for implementation, found in best.items():
        print(f"\nfastest with {implementation}:\n    {KernelBlocks(**(vars(table) | found))},")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
