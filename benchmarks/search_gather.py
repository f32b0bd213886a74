"""What `benchmarks.search` needs to know about the gather: candidates of each launch, and how to run one kernel.

Values are the keys, as in FLARE++. The gather is timed with the merge of its splits, the gradients with their sums over
splits, because these depend on the launch.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import jax

from benchmarks import search_flare_mixer as mixer
from benchmarks.search_launches import rebuild, replace_kernel
from kernels import gather, platform
from kernels._implementation import Request
from kernels._statistics import Statistics
from kernels._target import Target
from kernels.flare_mixer.shapes import MixerShape
from kernels.gather.api import SelectedBackends
from kernels.gather.backend import attend
from kernels.gather.operands import Operands
from kernels.gather.pallas import PallasBackend
from kernels.gather.table import OPERATION, KernelBlocks

KERNELS = ("gather", "gradients")
IMPLEMENTATIONS = ("pallas",)
SCALE = 1.0
# The kernels of the mixer whose tiles are of the same kind.
_LIKE = {"gather": "gather", "gradients": "operand_gradients"}

parse_blocks = functools.partial(rebuild, KernelBlocks)
with_kernel = replace_kernel


def table(shape: MixerShape, dtype: str, implementation: str) -> KernelBlocks:
    """Return the launches that the op takes now."""
    return OPERATION.launch_for(implementation, Request(dtype, shape.width, shape.points)).blocks


def tile_candidates(shape: MixerShape, dtype: str, kernel: str, start: KernelBlocks) -> Iterator[KernelBlocks]:
    """Yield `start`, then other tiles and warps of one kernel, those of a size near that of `start` first."""
    for blocks in mixer.blocks_by_tile(shape, dtype, _LIKE[kernel], getattr(start, kernel)):
        if not blocks.one_exponential:
            yield replace(start, **{kernel: blocks})


def launch_candidates(
    shape: MixerShape, dtype: str, kernel: str, best: Iterable[KernelBlocks]
) -> Iterator[KernelBlocks]:
    """Yield variations of programs, stages and groups."""
    for start in best:
        for blocks in mixer.blocks_by_launch(shape, dtype, _LIKE[kernel], getattr(start, kernel)):
            yield replace(start, **{kernel: blocks})


class Bench:
    """The op at one shape with its inputs on the device."""

    def __init__(self, shape: MixerShape, dtype: str, implementation: str):
        self.shape, self.dtype = shape, dtype
        operands = self.operands(shape.points)
        backend = PallasBackend(table(shape, dtype, implementation), Target.of(platform()))
        statistics = jax.jit(lambda x: backend.gather(Operands(*x), scale=SCALE))(operands)
        self._arguments = operands, statistics, statistics.latents

    def operands(self, points: int) -> tuple[jax.Array, ...]:
        """Return random queries and keys for this many points."""
        return mixer.random_operands(self.shape, self.dtype, points)[:2]

    def call(self, blocks: KernelBlocks | str) -> Callable[[tuple[jax.Array, ...]], jax.Array]:
        """Return the op with these launches, or the named implementation, as a function of its operands."""
        if isinstance(blocks, str):
            return lambda x: gather(*x, scale=SCALE, implementation=blocks)
        request = Request(self.dtype, self.shape.width, self.shape.points)
        backends = SelectedBackends(OPERATION.with_launch(blocks).resolve("pallas", request))
        return lambda x: attend(Operands(*x), backends, SCALE, None)

    def program(self, kernel: str, blocks: KernelBlocks) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return one kernel as a function and its arguments."""
        return functools.partial(_run, kernel, blocks), self._arguments


def _run(kernel: str, blocks: KernelBlocks, x: tuple[jax.Array, ...], statistics: Statistics, dz: jax.Array) -> Any:
    backend = PallasBackend(blocks, Target.of(platform()))
    if kernel == "gather":
        return backend.gather(Operands(*x), scale=SCALE)
    return backend.gradients(Operands(*x), statistics, dz, scale=SCALE)
