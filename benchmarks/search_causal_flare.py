"""What `benchmarks.search` needs to know about causal FLARE: candidates of its launch, how to run it.

All kernels of the op share one launch, which is timed on outputs with gradients.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.search_flare_mixer import random_operands
from benchmarks.search_launches import rebuild, with_gradients
from benchmarks.search_limits import fits
from kernels import causal_flare
from kernels._implementation import Request
from kernels._tiles import padded_width
from kernels.causal_flare.api import SelectedBackends
from kernels.causal_flare.operands import Operands, empty_state
from kernels.causal_flare.scheme import mix
from kernels.causal_flare.shapes import CausalShape
from kernels.causal_flare.table import OPERATION, Blocks

KERNELS = ("shared",)
IMPLEMENTATIONS = ("pallas",)


@dataclass(frozen=True)
class KernelBlocks:
    """The launch that all kernels share."""

    shared: Blocks


parse_blocks = functools.partial(rebuild, KernelBlocks)


def table(shape: CausalShape, dtype: str, implementation: str) -> KernelBlocks:
    """Return the launch that the op takes now."""
    return KernelBlocks(OPERATION.launch_for(implementation, Request(dtype, shape.width)).blocks)


def with_kernel(start: KernelBlocks, kernel: str, launch: KernelBlocks) -> KernelBlocks:
    """Return `launch`: there is one for all kernels."""
    return launch


def tile_candidates(shape: CausalShape, dtype: str, kernel: str, start: KernelBlocks) -> Iterator[KernelBlocks]:
    """Yield `start`, then other tiles and warps, those near the tile of `start` first."""
    yield start
    default = start.shared
    sides = ("tokens", "long_tokens", "latents")
    found = [
        replace(default, tokens=short, long_tokens=long, latents=latents, warps=warps, wide_warps=None)
        for short, long, latents, warps in itertools.product((16, 32, 64), (32, 64, 128), (32, 64, 128), (4, 8))
        if short <= long and latents <= padded_width(shape.latents)
    ]
    found.sort(key=lambda b: sum(abs(math.log2(getattr(b, side) / getattr(default, side))) for side in sides))
    yield from (KernelBlocks(blocks) for blocks in found if _fits(shape, dtype, blocks))


def launch_candidates(
    shape: CausalShape, dtype: str, kernel: str, best: Iterable[KernelBlocks]
) -> Iterator[KernelBlocks]:
    """Yield variations of programs, stages and, for float32, products."""
    for start in best:
        blocks = start.shared
        variations = [replace(blocks, programs=programs) for programs in (132, 264, 528, 1056, 2112)]
        variations += [replace(blocks, stages=stages) for stages in (1, 2, 3)]
        variations += [replace(blocks, exact="ieee")] if dtype == "float32" else []
        yield from (KernelBlocks(x) for x in variations if _fits(shape, dtype, x))


def _fits(shape: CausalShape, dtype: str, blocks: Blocks) -> bool:
    """Return whether logits and weights of a tile of tokens, the state and staged operands of a program fit."""
    width, latents = padded_width(shape.width), min(blocks.latents, padded_width(shape.latents))
    weights = max(4 * blocks.tokens, 2 * blocks.long_tokens) * latents
    shared = replace(blocks, latents=latents).shared_bytes(width, jnp.dtype(dtype).itemsize)
    return fits(numbers=weights + 2 * latents * width, warps=blocks.warps_of(latents), shared_bytes=shared)


class Bench:
    """The op at one shape with its inputs on the device."""

    def __init__(self, shape: CausalShape, dtype: str, implementation: str):
        self.shape, self.dtype = shape, dtype
        self._operands = self.operands(shape.points)

    def operands(self, points: int) -> tuple[jax.Array, ...]:
        """Return random q, k and v for this many tokens."""
        return random_operands(self.shape, self.dtype, points)

    def call(self, blocks: KernelBlocks | str) -> Callable[[tuple[jax.Array, ...]], jax.Array]:
        """Return the op with this launch, or the named implementation, as a function of its operands."""
        if isinstance(blocks, str):
            return lambda x: causal_flare(*x, implementation=blocks)
        shape = self.shape
        state = empty_state((shape.batch, shape.heads, shape.latents), shape.width)
        request = Request(self.dtype, shape.width, shape.points)
        backends = SelectedBackends(OPERATION.with_launch(blocks.shared).resolve("pallas", request))
        return lambda x: mix(backends, 1.0, Operands(*x, None, None, None), state)[0]

    def program(self, kernel: str, blocks: KernelBlocks) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return outputs with gradients as a function and its arguments; v stands in for the cotangent."""
        return functools.partial(with_gradients, self.call(blocks)), (self._operands,)
