"""What `benchmarks.search` needs to know about the FLARE mixer: candidates of each launch, and how to run one kernel.

The gather is timed with the merge of its splits, the gradients with their sums over splits, because these depend on the
launch. Kernels for few points merge what the one before them left, and are timed with it.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.search_launches import rebuild, replace_kernel
from benchmarks.search_limits import fits
from kernels import flare_mixer, platform
from kernels._implementation import Request
from kernels._statistics import Statistics
from kernels._target import Target
from kernels._tiles import padded_width
from kernels._tiling import Blocks
from kernels.flare_mixer import compact
from kernels.flare_mixer.api import SelectedBackends
from kernels.flare_mixer.mixing import Backend, mix
from kernels.flare_mixer.mosaic_launch import PairTiles
from kernels.flare_mixer.operands import Operands
from kernels.flare_mixer.pallas import PallasBackend
from kernels.flare_mixer.shapes import MixerShape
from kernels.flare_mixer.table import OPERATION, KernelBlocks

KERNELS = ("gather", "scatter", "latent_gradient", "operand_gradients")
IMPLEMENTATIONS = ("pallas",)
SCALE = 1.0
SIDES = (16, 32, 64, 128, 256)
# The largest and smallest tile of logits worth a trial.
LARGEST_TILE, SMALLEST_TILE = 16_384, 512
# The most tiles of points that share a pass over the latents; four spill already.
MOST_GROUP = 4
# One exponential of so many is a polynomial, of none with 0; of every second one was slower.
POLYNOMIALS = (0, 4, 8)

parse_blocks = functools.partial(rebuild, KernelBlocks)


def with_kernel(start: KernelBlocks, kernel: str, launch: KernelBlocks) -> KernelBlocks:
    """Return `start` with one kernel of `launch`; the operands' gradients have two."""
    start = replace_kernel(start, kernel, launch)
    return replace_kernel(start, "pairs", launch) if kernel == "operand_gradients" else start


def table(shape: MixerShape, dtype: str, implementation: str) -> KernelBlocks:
    """Return the launches that the op takes now."""
    return OPERATION.launch_for(implementation, Request(dtype, shape.width, shape.points)).blocks


def tile_candidates(shape: MixerShape, dtype: str, kernel: str, start: KernelBlocks) -> Iterator[KernelBlocks]:
    """Yield `start`, then other tiles and warps of one kernel, those of a size near that of `start` first."""
    if kernel == "operand_gradients":
        # Of the two kernels the one that is tried is the only one.
        yield start
        for pairs in map(PairTiles, (264, 132, 528)):
            if dtype == "bfloat16" and pairs.fits(shape.latents, shape.width):
                yield replace(start, pairs=pairs)
        start = replace(start, pairs=None)
    for blocks in blocks_by_tile(shape, dtype, kernel, getattr(start, kernel)):
        # Kernels of few points take two exponentials.
        if not (start.compact and blocks.one_exponential):
            yield replace(start, **{kernel: blocks})


def blocks_by_tile(shape: MixerShape, dtype: str, kernel: str, default: Blocks) -> Iterator[Blocks]:
    """Yield `default`, then other tiles and warps, those of a size near its own first."""
    yield default
    points = [side for side in SIDES if side <= padded_width(shape.points)]
    latents = [side for side in SIDES if side <= padded_width(shape.latents)]
    sides = [x for x in itertools.product(points, latents) if SMALLEST_TILE <= math.prod(x) <= LARGEST_TILE]
    sides.sort(key=lambda pair: abs(math.log2(math.prod(pair) / (default.points * default.latents))))
    last = kernel == "operand_gradients"
    # Sharing one exponential needs fewer registers, so other tiles may be best.
    shared = (True, False) if last else (False,)
    for (side, latent_side), warps, one in itertools.product(sides, (2, 4, 8) if last else (4, 8), shared):
        blocks = replace(default, points=side, latents=latent_side, warps=warps, one_exponential=one)
        blocks = replace(blocks, group=_group(default, blocks)) if last else blocks
        if _fits(shape, dtype, kernel, blocks):
            yield blocks


def _group(default: Blocks, blocks: Blocks) -> int:
    """Return how many tiles of points share a pass, so that a thread has as many pairs of it as with `default`."""
    pairs = default.group * default.points * default.latents / default.warps
    return min(MOST_GROUP, max(1, round(pairs * blocks.warps / (blocks.points * blocks.latents))))


def launch_candidates(
    shape: MixerShape, dtype: str, kernel: str, best: Iterable[KernelBlocks]
) -> Iterator[KernelBlocks]:
    """Yield variations of programs and stages, and of what only some kernels can choose."""
    for start in best:
        if kernel == "operand_gradients" and start.pairs is not None:
            yield from (replace(start, pairs=replace(start.pairs, slots=slots)) for slots in (1, 2))
            continue
        for blocks in blocks_by_launch(shape, dtype, kernel, getattr(start, kernel)):
            yield replace(start, **{kernel: blocks})


def blocks_by_launch(shape: MixerShape, dtype: str, kernel: str, blocks: Blocks) -> Iterator[Blocks]:
    """Yield variations of programs and stages, and of what only some kernels can choose."""
    variations = []
    if kernel == "operand_gradients":
        variations = [replace(blocks, group=group) for group in range(1, MOST_GROUP + 1)]
    elif dtype == "bfloat16":
        variations = [replace(blocks, polynomial_every=every) for every in POLYNOMIALS]
    variations += [replace(blocks, programs=programs) for programs in (1, 132, 264, 528, 1056, 2112, 4224)]
    variations += [replace(blocks, stages=stages) for stages in (1, 3, 4)]
    yield from (x for x in variations if _fits(shape, dtype, kernel, x))


def _fits(shape: MixerShape, dtype: str, kernel: str, blocks: Blocks) -> bool:
    """Return whether a program's tiles fit: logits with what is derived from them, sums, and staged operands."""
    width, pair = padded_width(shape.width), blocks.points * blocks.latents
    sums = {
        "gather": blocks.latents * width,
        "scatter": blocks.points * width,
        "latent_gradient": blocks.latents * width,
        "operand_gradients": (2 * blocks.group * blocks.points + blocks.latents) * width,
    }[kernel]
    logits = 3 if kernel == "operand_gradients" else 1
    shared = blocks.shared_bytes(width, 2 if dtype == "bfloat16" else 4)
    return fits(numbers=logits * pair + sums, warps=blocks.warps, shared_bytes=shared)


class Step(NamedTuple):
    """Inputs and intermediate results of one forward and backward pass, on which each kernel is timed."""

    operands: Operands
    statistics: Statistics
    y: jax.Array
    maximum: jax.Array
    mass: jax.Array
    dz: jax.Array


def run_kernel(kernel: str, backend: Backend, step: Step) -> Any:
    """Run one kernel of a backend; v stands in for the gradient of y."""
    operands, statistics = step.operands, (step.maximum, step.mass)
    match kernel:
        case "gather":
            return backend.gather(operands, scale=SCALE)
        case "scatter":
            return backend.scatter(operands, step.statistics, scale=SCALE)
        case "latent_gradient":
            return backend.latent_gradient(operands, operands.v, statistics, scale=SCALE)
    return backend.operand_gradients(operands, step.statistics, statistics, step.y, operands.v, step.dz, scale=SCALE)


def run_pass(kernel: str, backend: Backend, step: Step) -> Any:
    """Run the forward or the backward pass that a kernel belongs to."""
    operands, points = step.operands, (step.maximum, step.mass)
    if kernel in ("gather", "scatter"):
        return backend.forward(operands, scale=SCALE)
    none = jnp.zeros_like(step.dz)
    return backend.backward(operands, step.statistics, points, step.y, operands.v, none, scale=SCALE)


def random_operands(shape: Any, dtype: str, points: int) -> tuple[jax.Array, ...]:
    """Return random q, k and v of the latents, heads and width of `shape`, with logits of order one."""
    keys = jax.random.split(jax.random.key(0), 3)
    sizes = (shape.batch, points, shape.heads, shape.width)
    q = jax.random.normal(keys[0], (shape.heads, shape.latents, shape.width)) * shape.width**-0.5
    k, v = (jax.random.normal(key, sizes, dtype) for key in keys[1:])
    return q.astype(dtype), k, v


class Bench:
    """The op at one shape with its inputs on the device."""

    def __init__(self, shape: MixerShape, dtype: str, implementation: str):
        self.shape, self.dtype = shape, dtype
        self.step = jax.jit(functools.partial(_make_step, blocks=table(shape, dtype, implementation)))(
            Operands(*self.operands(shape.points))
        )

    def operands(self, points: int) -> tuple[jax.Array, ...]:
        """Return `random_operands` for this many points."""
        return random_operands(self.shape, self.dtype, points)

    def call(self, blocks: KernelBlocks | str) -> Callable[[tuple[jax.Array, ...]], jax.Array]:
        """Return the op with these launches, or the named implementation, as a function of its operands."""
        if isinstance(blocks, str):
            return lambda x: flare_mixer(*x, scale=SCALE, implementation=blocks)
        request = Request(self.dtype, self.shape.width, self.shape.points)
        backends = SelectedBackends(OPERATION.with_launch(blocks).resolve("pallas", request))
        return lambda x: mix(Operands(*x), backends, SCALE, None)[0]

    def program(self, kernel: str, blocks: KernelBlocks) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return one kernel as a function and its arguments; one of few points with the other kernel of its pass."""
        backend = PallasBackend(blocks, Target.of(platform()))
        run = run_pass if compact.serves(self.step.operands, blocks, backend.target) else run_kernel
        return functools.partial(run, kernel, backend), (self.step,)


def _make_step(operands: Operands, *, blocks: KernelBlocks) -> Step:
    """Run everything once."""
    backend = PallasBackend(blocks, Target.of(platform()))
    statistics = backend.gather(operands, scale=SCALE)
    y, (maximum, mass) = backend.scatter(operands, statistics, scale=SCALE)
    dz = backend.latent_gradient(operands, operands.v, (maximum, mass), scale=SCALE)
    return Step(operands, statistics, y, maximum, mass, dz)
