"""What `benchmarks.search` needs to know about linear attention with decay: candidates of each launch, how to run it.

The mixing kernel is searched first, with the number of programs that all kernels share, and timed with the sums and
the states before it; the summing kernel after it in the same way, and the gradients with all of the op.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.kernels_jax import gated_linear_operands
from benchmarks.search_launches import rebuild, replace_kernel_of_linear_attention, with_gradients
from benchmarks.search_limits import fits
from kernels import gated_linear_attention
from kernels._implementation import Request
from kernels._tiles import padded_width
from kernels.causal_linear_attention.gated import SelectedBackends
from kernels.causal_linear_attention.gated_scheme import attend
from kernels.causal_linear_attention.shapes import AttentionShape
from kernels.causal_linear_attention.table import GATED, GatedBlock, GatedBlocks

KERNELS = ("mix", "sums", "gradients")
IMPLEMENTATIONS = ("pallas",)

parse_blocks = functools.partial(rebuild, GatedBlocks)
with_kernel = replace_kernel_of_linear_attention


def table(shape: AttentionShape, dtype: str, implementation: str) -> GatedBlocks:
    """Return the launches that the op takes now."""
    return GATED.launch_for(implementation, Request(dtype, max(shape.width, shape.channels))).blocks


def tile_candidates(shape: AttentionShape, dtype: str, kernel: str, start: GatedBlocks) -> Iterator[GatedBlocks]:
    """Yield `start`, then other tiles and warps of one kernel, those near the tile of `start` first."""
    yield start
    default: GatedBlock = getattr(start, kernel)
    found = [
        replace(default, points=points, warps=warps)
        for points, warps in itertools.product((16, 32, 64, 128), (2, 4, 8))
    ]
    found.sort(key=lambda block: abs(math.log2(block.points / default.points)))
    yield from (replace(start, **{kernel: block}) for block in found if _fits(shape, dtype, kernel, block))


def launch_candidates(
    shape: AttentionShape, dtype: str, kernel: str, best: Iterable[GatedBlocks]
) -> Iterator[GatedBlocks]:
    """Yield variations of the stages, and for the mixing kernel of the programs."""
    for start in best:
        if kernel == "mix":
            yield from (replace(start, programs=programs) for programs in (132, 264, 396, 528, 792, 1056, 2112))
        block: GatedBlock = getattr(start, kernel)
        variations = [replace(block, stages=stages) for stages in (1, 2, 3, 4)]
        yield from (replace(start, **{kernel: x}) for x in variations if _fits(shape, dtype, kernel, x))


def _fits(shape: AttentionShape, dtype: str, kernel: str, block: GatedBlock) -> bool:
    """Return whether state, weights, decays and outputs of a program fit; those of the gradients may spill a little."""
    item, width, columns = jnp.dtype(dtype).itemsize, padded_width(shape.width), padded_width(shape.channels)
    numbers = width * columns + block.points * width
    if kernel != "sums":
        numbers += block.points * (block.points // 2 + columns)
    staged = block.stages * block.points * (item * (width + columns) + 4 * width) if kernel == "sums" else 0
    return fits(numbers=numbers, warps=block.warps, shared_bytes=staged)


class Bench:
    """The op at one shape, with a decay per channel, with its inputs on the device."""

    def __init__(self, shape: AttentionShape, dtype: str, implementation: str):
        self.shape, self.dtype = shape, dtype
        self._operands = self.operands(shape.points)

    def operands(self, points: int) -> tuple[jax.Array, ...]:
        """Return random log decays, q, k and v for this many tokens."""
        return gated_linear_operands(replace(self.shape, points=points), self.dtype)

    def call(self, blocks: GatedBlocks | str) -> Callable[[tuple[jax.Array, ...]], jax.Array]:
        """Return the op with these launches, or the named implementation, as a function of its operands."""
        if isinstance(blocks, str):
            return lambda x: gated_linear_attention(*x[1:], log_decay=x[0], implementation=blocks)
        request = Request(self.dtype, max(self.shape.width, self.shape.channels), self.shape.points)
        return functools.partial(_attend, SelectedBackends(GATED.with_launch(blocks).resolve("pallas", request)))

    def program(self, kernel: str, blocks: GatedBlocks) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return what runs one kernel as a function and its arguments."""
        call = self.call(blocks)
        return functools.partial(with_gradients, call) if kernel == "gradients" else call, (self._operands,)


def _attend(backends: SelectedBackends, x: tuple[jax.Array, ...]) -> jax.Array:
    decay, q, k, v = x
    state = jnp.zeros((q.shape[0], q.shape[2], q.shape[3], v.shape[3]), jnp.float32)
    return attend(backends, 1.0, q, k, v, decay, state)[0]
