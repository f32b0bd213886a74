"""Which launch of each kernel of the FLARE mixer is fastest on this GPU?

    python -m benchmarks.search_flare_mixer --shape million_m128 --dtype bfloat16
    python -m benchmarks.search_flare_mixer --sizes 1 40000 8 256 8 --kernel gather --seconds 120

For each kernel it times the launch of the table in kernels/flare_mixer/dispatch.py, then tile sides and warps, then
number of programs, stages and float32 products around the two best, until `--seconds` are over. It prints every launch
it tried with its time, and last what to put into the table. The gather is timed with the merge of its splits, the
gradients with their sums over splits, because these depend on the launch.
"""

import argparse
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.timing import device_line, median_seconds, print_table
from kernels.flare_mixer.dispatch import Blocks, kernel_blocks
from kernels.flare_mixer.operands import Operands, Statistics
from kernels.flare_mixer.pallas import merge_splits
from kernels.flare_mixer.pallas_backward_latents import latent_gradient
from kernels.flare_mixer.pallas_backward_operands import operand_gradients
from kernels.flare_mixer.pallas_forward import gather, scatter
from kernels.flare_mixer.pallas_tiles import padded_width
from kernels.flare_mixer.shapes import SHAPES, MixerShape

SCALE = 1.0
# Short launches are timed in groups, each with latents of its own, so that the call from Python does not count.
GROUP = 16
LONG_SECONDS = 2e-3


class Step(NamedTuple):
    """Inputs and intermediate results of one forward and backward pass, on which each kernel is timed."""

    operands: Operands
    statistics: Statistics
    latents: jax.Array
    y: jax.Array
    maximum: jax.Array
    mass: jax.Array
    dz: jax.Array


def run_gather(q: jax.Array, step: Step, blocks: Blocks) -> Statistics:
    """Gather and merge the splits."""
    return merge_splits(gather(step.operands._replace(q=q), SCALE, blocks))


def run_scatter(q: jax.Array, step: Step, blocks: Blocks) -> tuple[jax.Array, ...]:
    """Scatter."""
    return scatter(step.operands._replace(q=q), step.latents, SCALE, blocks)


def run_latent_gradient(q: jax.Array, step: Step, blocks: Blocks) -> jax.Array:
    """First backward pass, summed over its splits; v stands in for the gradient of y."""
    operands = step.operands._replace(q=q)
    return latent_gradient(operands, operands.v, step.maximum, step.mass, SCALE, blocks)


def run_operand_gradients(q: jax.Array, step: Step, blocks: Blocks) -> Operands:
    """Second backward pass, the gradient of q summed over splits and samples."""
    operands = step.operands._replace(q=q)
    point_statistics = (step.maximum, step.mass)
    gradients = operand_gradients(
        operands, step.statistics, point_statistics, step.y, operands.v, step.dz, SCALE, blocks
    )
    return gradients._replace(q=jnp.sum(gradients.q, axis=0))


RUNS: dict[str, Callable[[jax.Array, Step, Blocks], Any]] = {
    "gather": run_gather,
    "scatter": run_scatter,
    "latent_gradient": run_latent_gradient,
    "operand_gradients": run_operand_gradients,
}


def make_operands(shape: MixerShape, dtype: str) -> Operands:
    """Return random operands with logits of order one."""
    keys = jax.random.split(jax.random.key(0), 3)
    points = (shape.batch, shape.points, shape.heads, shape.width)
    q = jax.random.normal(keys[0], (shape.heads, shape.latents, shape.width), dtype)
    return Operands(q, jax.random.normal(keys[1], points, dtype), jax.random.normal(keys[2], points, dtype))


@jax.jit
def make_step(operands: Operands) -> Step:
    """Run everything once with the launches of the table."""
    blocks = kernel_blocks(operands)
    statistics = merge_splits(gather(operands, SCALE, blocks.gather))
    latents = statistics.latents.astype(operands.v.dtype)
    y, maximum, mass = scatter(operands, latents, SCALE, blocks.scatter)
    dz = latent_gradient(operands, operands.v, maximum, mass, SCALE, blocks.latent_gradient)
    return Step(operands, statistics, latents, y, maximum, mass, dz)


def launch_seconds(kernel: str, blocks: Blocks, step: Step) -> float:
    """Return the median time of one launch."""
    run = RUNS[kernel]
    once = jax.jit(lambda q, step: run(q, step, blocks))
    q = step.operands.q
    seconds = median_seconds(lambda: jax.block_until_ready(once(q, step)), repeats=5)
    if seconds > LONG_SECONDS:
        return seconds
    group = jax.jit(lambda latents, step: [run(q, step, blocks) for q in latents])
    latents = [q * (1 + i / 100) for i in range(GROUP)]
    return median_seconds(lambda: jax.block_until_ready(group(latents, step)), repeats=9) / GROUP


def tile_candidates(default: Blocks, shape: MixerShape) -> Iterable[Blocks]:
    """Yield the default, then other tiles and warps, those of a size near the default's first."""
    yield default
    points = [side for side in (16, 32, 64, 128, 256) if side <= padded_width(shape.points)]
    latents = [side for side in (16, 32, 64, 128, 256) if side <= padded_width(shape.latents)]
    sides = [pair for pair in itertools.product(points, latents) if 512 <= math.prod(pair) <= 16_384]
    sides.sort(key=lambda pair: abs(math.log2(math.prod(pair) / (default.points * default.latents))))
    for (side, latent_side), warps in itertools.product(sides, (4, 8)):
        yield replace(default, points=side, latents=latent_side, warps=warps)


def launch_candidates(best: Iterable[Blocks], dtype: str) -> Iterable[Blocks]:
    """Yield variations of programs, stages and, for float32, products."""
    for blocks in best:
        for programs in (1, 132, 264, 528, 1056, 2112, 4224):
            yield replace(blocks, programs=programs)
        for stages in (1, 3, 4):
            yield replace(blocks, stages=stages)
        if dtype == "float32":
            yield replace(blocks, exact="ieee")


def search(kernel: str, step: Step, shape: MixerShape, dtype: str, seconds: float) -> dict[Blocks, float]:
    """Return the time of every launch tried within `seconds`; infinity for those that do not compile or run."""
    times: dict[Blocks, float] = {}
    deadline = time.monotonic() + seconds

    def try_all(candidates: Iterable[Blocks], until: float) -> None:
        for blocks in candidates:
            if time.monotonic() > until:
                return
            if blocks in times:
                continue
            try:
                times[blocks] = launch_seconds(kernel, blocks, step)
            except (
                Exception
            ) as error:  # too much shared memory or too many registers: not an answer, but no reason to stop
                times[blocks] = float("inf")
                print(f"{kernel} {blocks}: {type(error).__name__}", file=sys.stderr)

    default = getattr(kernel_blocks(step.operands), kernel)
    try_all(tile_candidates(default, shape), deadline - 0.4 * seconds)
    try_all(launch_candidates(sorted(times, key=times.get)[:2], dtype), deadline)
    return times


def print_times(kernel: str, times: dict[Blocks, float], default: Blocks) -> None:
    """Print the launches from fastest to slowest, beside the one of the table."""
    rows = [
        (b.points, b.latents, b.programs, b.warps, b.stages, b.exact, f"{1e6 * t:.1f}", f"{t / times[default]:.2f}")
        for b, t in sorted(times.items(), key=lambda item: item[1])
    ]
    print(f"\n{kernel}: the table's launch takes {1e6 * times[default]:.1f} us")
    print_table(("points", "latents", "programs", "warps", "stages", "exact", "us", "ratio"), rows)


def main(arguments: list[str]) -> int:
    """Search the kernels named on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.search_flare_mixer", description=__doc__.splitlines()[0]
    )
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--shape", choices=SHAPES, default="million_m128")
    sizes.add_argument("--sizes", type=int, nargs=5, metavar=("BATCH", "POINTS", "HEADS", "LATENTS", "WIDTH"))
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--kernel", choices=RUNS, nargs="+", default=list(RUNS))
    parser.add_argument("--seconds", type=float, default=90.0, help="time for each kernel")
    options = parser.parse_args(arguments)
    shape = MixerShape(*options.sizes) if options.sizes else SHAPES[options.shape]
    print(f"{device_line()}; {shape}, {options.dtype}")
    step = jax.block_until_ready(make_step(make_operands(shape, options.dtype)))
    default = kernel_blocks(step.operands)
    best = {}
    for kernel in options.kernel:
        times = search(kernel, step, shape, options.dtype, options.seconds)
        print_times(kernel, times, getattr(default, kernel))
        best[kernel] = min(times, key=times.get)
    print("\nfastest:")
    for kernel, blocks in best.items():
        print(f"    {kernel}={blocks},")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
