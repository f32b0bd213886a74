"""How long does each kernel of the mixer take, Triton's and Mosaic GPU's with several tiles? Run on a Hopper GPU:

    python -m benchmarks.mixer_kernels [--shape=million_m2048,...] [--dtype=bfloat16,...] [--kernel=gather,...]

Each is timed with what surrounds it: merges and sums of splits, and what is made of its operands. `difference` is the
RMS between the results of a row and of the first one, over the RMS of those.
"""

import argparse
import functools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.command import check_gpu, check_output, exit_status, names_in
from benchmarks.programs import compile_all, program_seconds
from benchmarks.search_flare_mixer import KERNELS, Bench, run_kernel, table
from benchmarks.timing import device_line, print_table, write_results
from benchmarks.worker import reason
from kernels import platform
from kernels._target import Target
from kernels.flare_mixer.mixing import Backend
from kernels.flare_mixer.mosaic import MosaicBackend
from kernels.flare_mixer.mosaic_launch import MosaicBlocks, PairTiles, Tiles
from kernels.flare_mixer.pallas import PallasBackend
from kernels.flare_mixer.shapes import SHAPES, MixerShape

HEADER = ("shape", "dtype", "kernel", "launch", "ms", "difference")
# More than three warpgroups ask for more registers than there are, and wait for them.
READ = (
    Tiles(stream=64),
    Tiles(stream=64, tiles=2),
    Tiles(stream=64, tiles=2, stages=3),
    Tiles(stream=64, tiles=2, warpgroups=3),
    Tiles(stream=64, warpgroups=3),
)
SLOPES = {
    "bfloat16": Tiles(stream=64, operands=3, results=2),
    "float32": Tiles(stream=32, warpgroups=1, operands=3, results=2),
}
PAIRS = (PairTiles(), PairTiles(programs=132), PairTiles(programs=528), PairTiles(stages=3, slots=1))
BUDGET_SECONDS = 0.2


class Way(NamedTuple):
    """One way to run a kernel."""

    launch: str
    backend: Backend


def ways(kernel: str, shape: MixerShape, dtype: str) -> Iterator[Way]:
    """Yield Triton's kernel as in the table, then those of Mosaic GPU."""
    target, blocks = Target.of(platform()), table(shape, dtype, "pallas")
    yield Way("triton", PallasBackend(replace(blocks, pairs=None), target))
    slopes = SLOPES[dtype]
    if kernel != "operand_gradients":
        yield from (Way(f"{tiles}", MosaicBackend(MosaicBlocks(tiles, slopes), target)) for tiles in READ)
        return
    if dtype == "bfloat16":
        fitting = (pairs for pairs in PAIRS if pairs.fits(shape.latents, shape.width))
        yield from (Way(f"{pairs}", MosaicBackend(MosaicBlocks(READ[0], slopes, pairs), target)) for pairs in fitting)
    yield Way(f"{slopes}", MosaicBackend(MosaicBlocks(READ[0], slopes), target))


def measure(name: str, shape: MixerShape, dtype: str, kernels: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the table for one shape and dtype."""
    bench = Bench(shape, dtype, "pallas")
    for kernel in kernels:
        expected = None
        for way in ways(kernel, shape, dtype):
            function = functools.partial(run_kernel, kernel, way.backend)
            try:
                seconds, found = _timed(function, bench.step)
            except Exception as error:  # what cannot run here is a row of the table
                yield (name, dtype, kernel, way.launch, "-", reason(error))
                continue
            expected = found if expected is None else expected
            yield (name, dtype, kernel, way.launch, f"{1e3 * seconds:.2f}", f"{_difference(found, expected):.1e}")


def _timed(function: Any, step: Any) -> tuple[float, Any]:
    (program,) = compile_all([(function, (step,))])
    if program.compiled is None:
        raise RuntimeError(program.error)
    return program_seconds(program, function, (step,), BUDGET_SECONDS), program.compiled(step)


@jax.jit
def _difference(found: Any, expected: Any) -> jax.Array:
    """Return the largest RMS of the differences of any array."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    pairs = [(a.astype(jnp.float32), b.astype(jnp.float32)) for a, b in pairs]
    return jnp.max(jnp.stack([jnp.sqrt(jnp.mean((a - b) ** 2) / jnp.mean(b**2)) for a, b in pairs]))


def main(arguments: Sequence[str]) -> int:
    """Time the kernels and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mixer_kernels", description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="million_m2048,million_m512,million_m128", help="names of shapes")
    parser.add_argument("--dtype", default="bfloat16,float32", help="bfloat16, float32 or both")
    parser.add_argument("--kernel", default=",".join(KERNELS), help=f"of {', '.join(KERNELS)}")
    parser.add_argument("--output", help="JSON file of the results")
    options = parser.parse_args(arguments)
    chosen = [
        _named(option, names_in(text), known)
        for option, text, known in (
            ("--shape", options.shape, SHAPES),
            ("--dtype", options.dtype, SLOPES),
            ("--kernel", options.kernel, KERNELS),
        )
    ]
    check_output(options.output)
    check_gpu()
    print(device_line(), flush=True)
    rows: list[tuple[str, ...]] = []
    for name in chosen[0]:
        for dtype in chosen[1]:
            for row in measure(name, SHAPES[name], dtype, chosen[2]):
                print("  ".join(row), flush=True)
                rows.append(row)
    print_table(HEADER, rows)
    write_results(options.output, {"rows": [dict(zip(HEADER, row, strict=True)) for row in rows]})
    return 0


def _named(option: str, names: Sequence[str], known: Any) -> Sequence[str]:
    """Return the names, or raise ValueError where one is unknown or there are none."""
    for name in names or ("",):
        if name not in known:
            raise ValueError(f"{option} has {name!r}; give some of {', '.join(known)}, with commas between them.")
    return names


if __name__ == "__main__":
    sys.exit(exit_status(main))
