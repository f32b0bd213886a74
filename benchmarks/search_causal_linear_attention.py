"""What `benchmarks.search` needs to know about causal linear attention: candidates of each launch, how to run a kernel.

The mixing kernel is searched first, with the number of programs that all kernels share, and timed with the sums and
the states before it; the summing kernel is then timed alone, and the walk that finds the gradients of keys and values
together with all of the op, beside two walks of the mixing kernel.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.search_launches import rebuild, replace_kernel_of_linear_attention, with_gradients
from benchmarks.search_limits import fits
from kernels import causal_linear_attention, platform
from kernels._implementation import Request
from kernels._target import Target
from kernels._tiles import padded_width
from kernels.causal_linear_attention.api import SelectedBackends
from kernels.causal_linear_attention.recurrence import attend
from kernels.causal_linear_attention.shapes import AttentionShape
from kernels.causal_linear_attention.table import OPERATION, Blocks, KernelBlocks

KERNELS = ("mix", "sums", "pair")
IMPLEMENTATIONS = ("pallas", "triton")

parse_blocks = functools.partial(rebuild, KernelBlocks)
with_kernel = replace_kernel_of_linear_attention


def table(shape: AttentionShape, dtype: str, implementation: str) -> KernelBlocks:
    """Return the launches that the op takes now."""
    return OPERATION.launch_for(implementation, Request(dtype, max(shape.width, shape.channels))).blocks


def tile_candidates(shape: AttentionShape, dtype: str, kernel: str, start: KernelBlocks) -> Iterator[KernelBlocks]:
    """Yield `start`, then other tiles and warps of one kernel, those near the tile of `start` first."""
    yield start
    default: Blocks = getattr(start, kernel) or start.sums
    columns = [default.columns]
    if kernel == "mix":
        columns = [side for side in (16, 32, 64, 128) if side <= padded_width(shape.channels)]
    # With two stages the loop of a kernel waits for all of a tile at its head, with three it reads one tile ahead.
    found = [
        replace(default, points=points, columns=width, warps=warps, stages=stages)
        for stages, points, width, warps in itertools.product((3, 2), (16, 32, 64, 128), columns, (4, 8))
    ]
    found.sort(key=lambda b: abs(math.log2(b.points / default.points)) + abs(math.log2(b.columns / default.columns)))
    yield from (replace(start, **{kernel: blocks}) for blocks in found if _fits(shape, dtype, kernel, blocks))


def launch_candidates(
    shape: AttentionShape, dtype: str, kernel: str, best: Iterable[KernelBlocks]
) -> Iterator[KernelBlocks]:
    """Yield variations of the stages, for the mixing kernel of the programs, and for float32 of the products."""
    for start in best:
        if kernel == "mix":
            yield from (replace(start, programs=programs) for programs in (132, 264, 396, 528, 792, 1056, 2112))
            if dtype == "float32":
                yield replace(start, exact="ieee")
        blocks: Blocks | None = getattr(start, kernel)
        variations = [replace(blocks, stages=stages) for stages in (1, 2, 3, 4)] if blocks else []
        yield from (replace(start, **{kernel: x}) for x in variations if _fits(shape, dtype, kernel, x))


def _fits(shape: AttentionShape, dtype: str, kernel: str, blocks: Blocks) -> bool:
    """Return whether state, weights, outputs and staged operands of a program fit."""
    item, width = jnp.dtype(dtype).itemsize, padded_width(shape.width)
    columns = min(blocks.columns, padded_width(shape.channels)) if kernel == "mix" else padded_width(shape.channels)
    numbers = width * columns
    rows = width + columns
    if kernel == "mix":
        numbers += blocks.points * (blocks.points // 2 + columns)  # weights are rounded
        rows += width
    if kernel == "pair":
        numbers += blocks.points * (blocks.points + rows)
        rows *= 2
    return fits(numbers=numbers, warps=blocks.warps, shared_bytes=blocks.stages * blocks.points * rows * item)


class Bench:
    """The op at one shape with its inputs on the device."""

    def __init__(self, shape: AttentionShape, dtype: str, implementation: str):
        self.shape, self.dtype = shape, dtype
        self._implementation = implementation
        self._operands = self.operands(shape.points)

    def operands(self, points: int) -> tuple[jax.Array, ...]:
        """Return random q, k and v for this many tokens."""
        shape, keys = self.shape, jax.random.split(jax.random.key(0), 3)
        widths = (shape.width, shape.width, shape.channels)
        sizes = [(shape.batch, points, shape.heads, width) for width in widths]
        return tuple(jax.random.normal(key, size, self.dtype) for key, size in zip(keys, sizes, strict=True))

    def call(self, blocks: KernelBlocks | str) -> Callable[[tuple[jax.Array, ...]], jax.Array]:
        """Return the op with these launches, or the named implementation, as a function of its operands."""
        if isinstance(blocks, str):
            return lambda x: causal_linear_attention(*x, implementation=blocks)
        return functools.partial(_attend, self._backends(blocks))

    def program(self, kernel: str, blocks: KernelBlocks) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return one kernel as a function and its arguments."""
        if kernel == "pair":
            return functools.partial(self._with_pair, blocks), (self._operands,)
        run = _attend if kernel == "mix" else _sum
        return functools.partial(run, self._backends(blocks)), (self._operands,)

    def _with_pair(self, blocks: KernelBlocks, x: tuple[jax.Array, ...]) -> Any:
        if blocks.pair is not None and self._implementation != "pallas":
            raise ValueError(f"{self._implementation} has no walk for both gradients")
        return with_gradients(self.call(blocks), x)

    def _backends(self, blocks: KernelBlocks) -> SelectedBackends:
        request = Request(self.dtype, max(self.shape.width, self.shape.channels), self.shape.points)
        return SelectedBackends(OPERATION.with_launch(blocks).resolve(self._implementation, request))


def _attend(backends: SelectedBackends, x: tuple[jax.Array, ...]) -> jax.Array:
    q, k, v = x
    state = jnp.zeros((q.shape[0], q.shape[2], q.shape[3], v.shape[3]), jnp.float32)
    return attend(backends, 1.0 / q.shape[1], q, k, v, state)[0]


def _sum(backends: SelectedBackends, x: tuple[jax.Array, ...]) -> jax.Array:
    return backends.on(Target.of(platform())).outer_sums(x[1], x[2])
