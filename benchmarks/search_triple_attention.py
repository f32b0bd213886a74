"""What `benchmarks.search` needs to know about triple attention: candidates of each launch, how to run one kernel."""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.search_launches import rebuild, replace_kernel
from benchmarks.search_limits import fits
from kernels import platform, triple_attention
from kernels._implementation import Request
from kernels._target import Target
from kernels._tiles import next_power_of_2
from kernels._tiles import padded_width as padded
from kernels.triple_attention.api import SelectedBackends
from kernels.triple_attention.attention import attend
from kernels.triple_attention.contractions import Contractions, Operands
from kernels.triple_attention.shapes import TripleShape
from kernels.triple_attention.table import OPERATION, Blocks, KernelBlocks

KERNELS = ("accumulate", "read", "pair")
IMPLEMENTATIONS = ("pallas", "triton")
# Below this many accumulators a thread, a tile is too small to be worth its loads.
FEWEST_ACCUMULATORS = 16

parse_blocks = functools.partial(rebuild, KernelBlocks)
with_kernel = replace_kernel


def table(shape: TripleShape, dtype: str, implementation: str) -> KernelBlocks:
    """Return the launches that the op takes now."""
    return OPERATION.launch_for(implementation, Request(dtype, shape.width)).blocks


def tile_candidates(shape: TripleShape, dtype: str, kernel: str, start: KernelBlocks) -> Iterator[KernelBlocks]:
    """Yield `start`, then other tiles and warps of one kernel, those near the tile of `start` first."""
    yield start
    default: Blocks = getattr(start, kernel)
    slices = [count for count in (1, 2, 4, 8, 16, 32) if count <= next_power_of_2(shape.width)]
    rows = [count for count in (16, 32, 64, 128, 256) if count <= padded(shape.points)]
    found = [
        replace(default, rows=row, slices=count, warps=warps)
        for row, count, warps in itertools.product(rows, slices, (4, 8))
    ]
    found.sort(key=lambda b: abs(math.log2(b.rows / default.rows)) + abs(math.log2(b.slices / default.slices)))
    yield from (replace(start, **{kernel: blocks}) for blocks in found if _fits(shape, dtype, kernel, blocks))


def launch_candidates(
    shape: TripleShape, dtype: str, kernel: str, best: Iterable[KernelBlocks]
) -> Iterator[KernelBlocks]:
    """Yield variations of programs (of the accumulation), stages and, for float32, products."""
    for start in best:
        blocks: Blocks = getattr(start, kernel)
        counts = (132, 264, 528, 1056, 2112) if kernel == "accumulate" else ()
        variations = [replace(blocks, programs=programs) for programs in counts]
        variations += [replace(blocks, stages=stages) for stages in (1, 2, 3, 4)]
        variations += [replace(blocks, exact="ieee")] if dtype == "float32" else []
        yield from (replace(start, **{kernel: x}) for x in variations if _fits(shape, dtype, kernel, x))


def _fits(shape: TripleShape, dtype: str, kernel: str, blocks: Blocks) -> bool:
    """Return whether accumulators and staged operands of a program fit, and fill it."""
    side, item = padded(shape.width), jnp.dtype(dtype).itemsize
    columns = blocks.slices * side
    accumulators = columns * side if kernel == "accumulate" else blocks.rows * columns
    staged = blocks.stages * (3 * blocks.rows * side + (0 if kernel == "accumulate" else side * columns)) * item
    pairs = blocks.rows * columns * item if kernel == "accumulate" else 0
    filled = accumulators >= FEWEST_ACCUMULATORS * 32 * blocks.warps
    return filled and fits(numbers=accumulators, warps=blocks.warps, shared_bytes=staged + pairs)


class Bench:
    """The op at one shape with its inputs on the device."""

    def __init__(self, shape: TripleShape, dtype: str, implementation: str):
        self.shape, self.dtype = shape, dtype
        self._implementation = implementation
        self._operands = Operands(*self.operands(shape.points))
        self._state = jax.random.normal(jax.random.key(1), (shape.batch, shape.heads, *[shape.width] * 3))

    def operands(self, points: int) -> tuple[jax.Array, ...]:
        """Return random q1, q2, k1, k2 and v for this many points."""
        sizes = (self.shape.batch, points, self.shape.heads, self.shape.width)
        return tuple(jax.random.normal(key, sizes, self.dtype) for key in jax.random.split(jax.random.key(0), 5))

    def call(self, blocks: KernelBlocks | str) -> Callable[[tuple[jax.Array, ...]], jax.Array]:
        """Return the op with these launches, or the named implementation, as a function of its operands."""
        if isinstance(blocks, str):
            return lambda x: triple_attention(*x, implementation=blocks)
        return lambda x: attend(Operands(*x), self._backends(blocks), 1.0 / x[0].shape[1], None)[0]

    def program(self, kernel: str, blocks: KernelBlocks) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return one kernel with the small operations around it as a function and its arguments."""
        return functools.partial(_run, kernel, self._backends(blocks)), (self._operands, self._state)

    def _backends(self, blocks: KernelBlocks) -> SelectedBackends:
        request = Request(self.dtype, self.shape.width, self.shape.points)
        return SelectedBackends(OPERATION.with_launch(blocks).resolve(self._implementation, request))


def _run(kernel: str, backends: SelectedBackends, x: Operands, state: jax.Array) -> Any:
    contractions: Contractions = backends.on(Target.of(platform()))
    if kernel == "accumulate":
        return contractions.accumulate(x.k1, x.k2, x.v)
    if kernel == "read":
        return contractions.read(x.q1, x.q2, state)
    return contractions.pair(x.v, x.q1, x.q2, state)
