"""How much does fusing FLARE's residual MLPs save, and which tilings of the fused kernels are fastest?

    python -m benchmarks.residual_mlp [--rows 1944 40000] [--channels 64] [--arithmetic tf32 bf16] [--json out.json]
    python -m benchmarks.residual_mlp --search --op block --rows 1944 --channels 64 --arithmetic tf32 --pass backward
    python -m benchmarks.residual_mlp --search --separate --op branches --rows 1048576 --channels 128 --arithmetic bf16

The two halves of a FLARE block are timed: `branches` (norm, then key and value MLPs of three inner layers) and `block`
(output projection, residual, norm, feed-forward MLP, residual). Each is repeated inside one jitted loop, so that gaps
between kernels count as they do in training; all programs are compiled in parallel before the first is timed.
"""

import argparse
import itertools
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.command import check_output, exit_status
from benchmarks.timing import device_line, median_seconds, print_table, write_results
from data_pipeline.command import Parser, integer
from kernels.residual_mlp import Norm, Projection, residual_mlp, residual_mlp_branches
from kernels.residual_mlp.dispatch import forced_tilings
from kernels.residual_mlp.plan import Tiling
from kernels.residual_mlp.shapes import INNER_LAYERS, SHAPES

OPS = ("branches", "block")
ARITHMETIC = {"tf32": ("float32", "default"), "float32": ("float32", "highest"), "bf16": ("bfloat16", "default")}
DIRECTIONS = ("forward", "backward")  # backward includes forward
# H100 SXM: dense tensor-core (float32: ordinary) multiply-adds per second times two, and bytes per second.
PEAK_FLOPS = {"tf32": 495e12, "float32": 67e12, "bf16": 989e12}
PEAK_BYTES = 3.35e12
# Rows that one timed program goes through, so that it runs for milliseconds.
ROWS_PER_PROGRAM = 2_000_000


class Setting(NamedTuple):
    """One line of the table."""

    op: str
    rows: int
    channels: int
    arithmetic: str
    direction: str

    @property
    def iterations(self) -> int:
        """Repeats inside one program."""
        return max(4, min(200, ROWS_PER_PROGRAM // self.rows))

    def floor_seconds(self) -> float:
        """Return the roofline: every row operand moved once, every product done once, no recomputation."""
        outputs, matrices = (2, 2 * (INNER_LAYERS + 2)) if self.op == "branches" else (1, INNER_LAYERS + 3)
        inputs = 1 if self.op == "branches" else 2
        arrays = inputs + outputs if self.direction == "forward" else 3 * inputs + 2 * outputs
        size = jnp.dtype(ARITHMETIC[self.arithmetic][0]).itemsize
        flops = 2 * self.rows * self.channels**2 * matrices * (1 if self.direction == "forward" else 3)
        return max(arrays * self.rows * self.channels * size / PEAK_BYTES, flops / PEAK_FLOPS[self.arithmetic])


def make_arrays(setting: Setting) -> dict[str, Any]:
    """Return random operands and output cotangents."""
    dtype, _ = ARITHMETIC[setting.arithmetic]
    channels, keys = setting.channels, iter(jax.random.split(jax.random.key(0), 100))

    def rows() -> jax.Array:
        return jax.random.normal(next(keys), (setting.rows, channels), dtype)

    def weight() -> jax.Array:
        return 0.5 * channels**-0.5 * jax.random.normal(next(keys), (channels, channels))

    def branch() -> tuple:
        layers = range(INNER_LAYERS + 2)
        return tuple(weight() for _ in layers), tuple(jnp.zeros(channels) for _ in layers)

    norm = Norm(scale=jnp.ones(channels), bias=jnp.zeros(channels), kind="layer", epsilon=1e-5)
    if setting.op == "branches":
        return {"operands": (rows(), (branch(), branch()), norm), "cotangents": (rows(), rows())}
    projection = Projection(weight=weight(), bias=jnp.zeros(channels), skip=rows())
    return {"operands": (rows(), branch(), norm, projection), "cotangents": (rows(),)}


def apply(setting: Setting, implementation: str | None, operands: tuple) -> tuple[jax.Array, ...]:
    """Call the op."""
    options = {"residual_in": True, "residual_out": True, "implementation": implementation}
    options["precision"] = ARITHMETIC[setting.arithmetic][1]
    if setting.op == "branches":
        x, branches, norm = operands
        return residual_mlp_branches(x, branches, norm=norm, **options)
    x, (weights, biases), norm, projection = operands
    return (residual_mlp(x, weights, biases, norm=norm, projection=projection, outer_residual=True, **options),)


def repeated(setting: Setting, implementation: str | None, arrays: dict[str, Any]) -> Any:
    """Run the op `setting.iterations` times, each on the (first) output of the one before it."""
    (first, *parameters), cotangents = arrays["operands"], arrays["cotangents"]

    def once(x: jax.Array) -> tuple[tuple[jax.Array, ...], Any]:
        operands = (x, *parameters)
        if setting.direction == "forward":
            return apply(setting, implementation, operands), None
        outputs, pull_back = jax.vjp(partial(apply, setting, implementation), operands)
        return outputs, pull_back(cotangents)

    def step(_: int, state: tuple) -> tuple:
        (x, *_), _ = state
        return once(x)

    outputs, gradients = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(once, first))
    return lax.fori_loop(0, setting.iterations, step, ((first, *outputs[1:]), gradients))


class Program(NamedTuple):
    """A compiled loop, or why there is none."""

    compiled: Any
    error: str = ""


def compile_all(jobs: list[tuple[Setting, str | None, tuple[Tiling, Tiling, bool] | None]]) -> list[Program]:
    """Trace one after the other, compile in parallel; a job's plan is what `forced_tilings` takes."""
    lowered = []
    for setting, implementation, tilings in jobs:
        shapes = jax.eval_shape(partial(make_arrays, setting))
        with ExitStack() as stack:
            if tilings is not None:
                stack.enter_context(forced_tilings(*tilings))
            lowered.append(jax.jit(partial(repeated, setting, implementation)).lower(shapes))

    def compile_one(program: Any) -> Program:
        try:
            return Program(program.compile())
        except jax.errors.JaxRuntimeError as error:  # too much shared memory: an answer in a search
            return Program(None, str(error).splitlines()[0][:60])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, lowered))


def seconds_per_iteration(setting: Setting, program: Program, arrays: dict[str, Any], repeats: int) -> float:
    """Return the median time of one iteration; infinity without a program or without enough memory for it."""
    if program.compiled is None:
        return float("inf")
    try:
        seconds = median_seconds(lambda: jax.block_until_ready(program.compiled(arrays)), repeats)
    except jax.errors.JaxRuntimeError as error:
        print(f"{setting}: {str(error).splitlines()[0][:100]}", file=sys.stderr)
        return float("inf")
    return seconds / setting.iterations


def temporary_mebibytes(program: Program) -> float:
    """Return what the program allocates beside arguments and results."""
    analysis = program.compiled.memory_analysis() if program.compiled else None
    return analysis.temp_size_in_bytes / 2**20 if analysis else float("nan")


def compare(settings: list[Setting], repeats: int) -> list[dict[str, Any]]:
    """Time the reference, compiled by XLA, against what the op chooses by itself."""
    jobs = [(setting, name, None) for setting in settings for name in ("reference", None)]
    programs = compile_all(jobs)
    results = []
    for setting, reference, chosen in zip(settings, programs[::2], programs[1::2], strict=True):
        arrays = jax.jit(partial(make_arrays, setting))()
        results.append(
            setting._asdict()
            | {
                "reference_seconds": seconds_per_iteration(setting, reference, arrays, repeats),
                "seconds": seconds_per_iteration(setting, chosen, arrays, repeats),
                "floor_seconds": setting.floor_seconds(),
                "reference_mib": temporary_mebibytes(reference),
                "mib": temporary_mebibytes(chosen),
            }
        )
    return results


def print_comparison(results: list[dict[str, Any]]) -> None:
    """Print one line per setting."""
    header = (
        "op",
        "rows",
        "C",
        "arithmetic",
        "pass",
        "XLA us",
        "fused us",
        "ratio",
        "floor us",
        "XLA MiB",
        "fused MiB",
    )
    lines = []
    for result in results:
        times = [result[name] for name in ("reference_seconds", "seconds", "floor_seconds")]
        xla, fused, floor = (f"{1e6 * seconds:.1f}" for seconds in times)
        name = "fwd" if result["direction"] == "forward" else "fwd+bwd"
        sizes = [f"{result[name]:.0f}" for name in ("reference_mib", "mib")]
        keys = [result[key] for key in ("op", "rows", "channels", "arithmetic")]
        lines.append((*keys, name, xla, fused, f"{times[0] / times[1]:.2f}", floor, *sizes))
    print_table(header, lines)


def forward_candidates(setting: Setting) -> Iterable[Tiling]:
    """Yield tilings of the forward pass."""
    programs = (65_536,) if setting.rows <= 4096 else (132, 264, 65_536)
    transposed = (False, True) if setting.channels >= 128 else (False,)
    for rows, warps, most, flip in itertools.product((16, 32, 64, 128), (4, 8), programs, transposed):
        if rows * setting.channels <= 64 * 32 * warps:
            for resident in (False, True):
                yield Tiling(rows=rows, warps=warps, programs=most, resident=resident, transposed=flip)


def backward_candidates(setting: Setting) -> Iterable[Tiling]:
    """Yield tilings of the backward pass."""
    few = setting.rows <= 4096
    for rows, warps in itertools.product((16, 32, 64), (4, 8)):
        if rows * setting.channels > 32 * 32 * warps:
            continue
        plain = Tiling(rows=rows, warps=warps, programs=65_536 if few else 132)
        for resident in (False, True):
            yield replace(plain, resident=resident)
            if not few:
                yield replace(plain, resident=resident, carried=True)
        factored = replace(plain, factored=True, carried=True, precast=not few)
        for transposed in (False, True):
            yield replace(factored, transposed=transposed, programs=4096)
            yield replace(factored, transposed=transposed, programs=128, resident=True)


def search(setting: Setting, repeats: int, limit: int, separate: bool) -> None:
    """Time the candidates of one pass with one plain tiling of the other, and print them from the fastest on."""
    plain = Tiling(rows=16, warps=8)
    if setting.direction == "forward":
        plans = [(tiling, plain, separate) for tiling in forward_candidates(setting)]
    else:
        plans = [(plain, tiling, separate) for tiling in backward_candidates(setting)]
    jobs = [(setting, None, None), *((setting, "pallas", plan) for plan in plans[:limit])]
    programs, arrays = compile_all(jobs), jax.jit(partial(make_arrays, setting))()
    lines = []
    for (_, _, plan), program in zip(jobs, programs, strict=True):
        seconds = seconds_per_iteration(setting, program, arrays, repeats)
        label = "(table)" if plan is None else describe(plan[setting.direction == "backward"])
        lines.append((seconds, label, program.error))
    print(f"\n{setting}; floor {1e6 * setting.floor_seconds():.1f} us")
    print_table(("us", "tiling", ""), [(f"{1e6 * seconds:.1f}", *rest) for seconds, *rest in sorted(lines)])


def describe(tiling: Tiling) -> str:
    """Return the fields that differ from their defaults."""
    return ", ".join(f"{k}={v}" for k, v in vars(tiling).items() if v != getattr(Tiling, k, None))


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(prog="python -m benchmarks.residual_mlp", description=__doc__.splitlines()[0])
    parser.add_argument("--op", choices=OPS, nargs="+", default=OPS)
    parser.add_argument("--rows", type=integer(1), nargs="+", default=sorted({shape.rows for shape in SHAPES.values()}))
    parser.add_argument("--channels", type=integer(1, 2**16), nargs="+", default=[64, 128])
    parser.add_argument("--arithmetic", choices=ARITHMETIC, nargs="+", default=list(ARITHMETIC))
    parser.add_argument("--pass", dest="direction", choices=DIRECTIONS, nargs="+", default=DIRECTIONS)
    parser.add_argument("--repeats", type=integer(1), default=7)
    parser.add_argument("--search", action="store_true", help="time tilings instead of comparing with XLA")
    parser.add_argument("--limit", type=integer(1), default=1000, help="candidates of a search")
    parser.add_argument("--separate", action="store_true", help="search with a launch for every branch")
    parser.add_argument("--json", help="file for the results of the comparison")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Compare or search."""
    options = parse(arguments)
    check_output(options.json)
    print(device_line())
    settings = [
        Setting(*values)
        for values in itertools.product(
            options.op, options.rows, options.channels, options.arithmetic, options.direction
        )
    ]
    if options.search:
        for setting in settings:
            search(setting, options.repeats, options.limit, options.separate)
        return 0
    results = compare(settings, options.repeats)
    print_comparison(results)
    write_results(options.json, {"settings": results})
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
