"""What `benchmarks.search` needs to know about the FLARE mixer: candidates of each launch, and how to run one kernel.

The gather is timed with the merge of its splits, the gradients with their sums over splits, because these depend on the
launch.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.search_limits import fits
from kernels import flare_mixer
from kernels._statistics import Statistics
from kernels.flare_mixer.dispatch import Blocks, KernelBlocks, kernel_blocks
from kernels.flare_mixer.operands import Operands
from kernels.flare_mixer.pallas import merge_splits, pallas_mixer
from kernels.flare_mixer.pallas_backward_latents import latent_gradient
from kernels.flare_mixer.pallas_backward_operands import operand_gradients
from kernels.flare_mixer.pallas_forward import gather, scatter
from kernels.flare_mixer.pallas_scales import operand_exponents
from kernels.flare_mixer.pallas_tiles import padded_width
from kernels.flare_mixer.shapes import MixerShape

KERNELS = ("gather", "scatter", "latent_gradient", "operand_gradients")
IMPLEMENTATIONS = ("pallas",)
SCALE = 1.0
SIDES = (16, 32, 64, 128, 256)
# The largest and smallest tile of logits worth a trial.
LARGEST_TILE, SMALLEST_TILE = 16_384, 512


def table(shape: MixerShape, dtype: str, implementation: str) -> KernelBlocks:
    """Return the launches that the op takes now."""
    points = jax.ShapeDtypeStruct((shape.batch, shape.points, shape.heads, shape.width), dtype)
    q = jax.ShapeDtypeStruct((shape.heads, shape.latents, shape.width), dtype)
    return kernel_blocks(Operands(q, points, points))


def parse_blocks(values: dict[str, Any]) -> KernelBlocks:
    """Undo `dataclasses.asdict`."""
    return KernelBlocks(**{name: Blocks(**blocks) for name, blocks in values.items()})


def with_kernel(start: KernelBlocks, kernel: str, launch: KernelBlocks) -> KernelBlocks:
    """Return `start` with the launch of one kernel taken from `launch`."""
    return replace(start, **{kernel: getattr(launch, kernel)})


def tile_candidates(shape: MixerShape, dtype: str, kernel: str, start: KernelBlocks) -> Iterator[KernelBlocks]:
    """Yield `start`, then other tiles and warps of one kernel, those of a size near that of `start` first."""
    yield start
    default: Blocks = getattr(start, kernel)
    points = [side for side in SIDES if side <= padded_width(shape.points)]
    latents = [side for side in SIDES if side <= padded_width(shape.latents)]
    sides = [x for x in itertools.product(points, latents) if SMALLEST_TILE <= math.prod(x) <= LARGEST_TILE]
    sides.sort(key=lambda pair: abs(math.log2(math.prod(pair) / (default.points * default.latents))))
    last = kernel == "operand_gradients"
    # Sharing one exponential needs fewer registers, so other tiles may be best.
    shared = (True, False) if last and dtype == "bfloat16" else (False,)
    for (side, latent_side), warps, one in itertools.product(sides, (2, 4, 8) if last else (4, 8), shared):
        blocks = replace(default, points=side, latents=latent_side, warps=warps, one_exponential=one)
        if _fits(shape, dtype, kernel, blocks):
            yield replace(start, **{kernel: blocks})


def launch_candidates(
    shape: MixerShape, dtype: str, kernel: str, best: Iterable[KernelBlocks]
) -> Iterator[KernelBlocks]:
    """Yield variations of programs and stages, and of what only the operands' gradients can choose."""
    for start in best:
        blocks: Blocks = getattr(start, kernel)
        variations = []
        if kernel == "operand_gradients":
            variations = [replace(blocks, group=group) for group in (1, 2, 3, 4)]
        variations += [replace(blocks, programs=programs) for programs in (1, 132, 264, 528, 1056, 2112, 4224)]
        variations += [replace(blocks, stages=stages) for stages in (1, 3, 4)]
        yield from (replace(start, **{kernel: x}) for x in variations if _fits(shape, dtype, kernel, x))


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
    item = 2 if dtype == "bfloat16" else 4  # float32 is multiplied as two parts of float16
    staged = blocks.stages * 2 * (blocks.points + blocks.latents) * width * item
    return fits(numbers=logits * pair + sums, warps=blocks.warps, shared_bytes=staged + pair * item)


class Step(NamedTuple):
    """Inputs and intermediate results of one forward and backward pass, on which each kernel is timed."""

    operands: Operands
    statistics: Statistics
    latents: jax.Array
    y: jax.Array
    maximum: jax.Array
    mass: jax.Array
    dz: jax.Array


def _run_gather(step: Step, *, blocks: Blocks) -> Statistics:
    return merge_splits(gather(step.operands, operand_exponents(step.operands), SCALE, blocks))


def _run_scatter(step: Step, *, blocks: Blocks) -> tuple[jax.Array, ...]:
    return scatter(step.operands, step.latents, operand_exponents(step.operands), SCALE, blocks)


def _run_latent_gradient(step: Step, *, blocks: Blocks) -> jax.Array:
    """First backward pass, summed over its splits; v stands in for the gradient of y."""
    operands, exponents = step.operands, operand_exponents(step.operands)
    return latent_gradient(operands, exponents, operands.v, step.maximum, step.mass, SCALE, blocks)


def _run_operand_gradients(step: Step, *, blocks: Blocks) -> Operands:
    """Second backward pass, the gradient of q summed over splits and samples."""
    operands, exponents, statistics = step.operands, operand_exponents(step.operands), (step.maximum, step.mass)
    found = operand_gradients(
        operands, exponents, step.statistics, statistics, step.y, operands.v, step.dz, SCALE, blocks
    )
    return found._replace(q=jnp.sum(found.q, axis=0))


_RUNS = {
    "gather": _run_gather,
    "scatter": _run_scatter,
    "latent_gradient": _run_latent_gradient,
    "operand_gradients": _run_operand_gradients,
}


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
        self._step = jax.jit(functools.partial(_make_step, blocks=table(shape, dtype, implementation)))(
            Operands(*self.operands(shape.points))
        )

    def operands(self, points: int) -> tuple[jax.Array, ...]:
        """Return `random_operands` for this many points."""
        return random_operands(self.shape, self.dtype, points)

    def call(self, blocks: KernelBlocks | str) -> Callable[[tuple[jax.Array, ...]], jax.Array]:
        """Return the op with these launches, or the named implementation, as a function of its operands."""
        if isinstance(blocks, str):
            return lambda x: flare_mixer(*x, scale=SCALE, implementation=blocks)
        return lambda x: pallas_mixer(Operands(*x), scale=SCALE, axis_name=None, blocks=blocks)[0]

    def program(self, kernel: str, blocks: KernelBlocks) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return one kernel as a function and its arguments."""
        return functools.partial(_RUNS[kernel], blocks=getattr(blocks, kernel)), (self._step,)


def _make_step(operands: Operands, *, blocks: KernelBlocks) -> Step:
    """Run everything once."""
    exponents = operand_exponents(operands)
    statistics = merge_splits(gather(operands, exponents, SCALE, blocks.gather))
    latents = statistics.latents.astype(operands.v.dtype)
    y, maximum, mass = scatter(operands, latents, exponents, SCALE, blocks.scatter)
    dz = latent_gradient(operands, exponents, operands.v, maximum, mass, SCALE, blocks.latent_gradient)
    return Step(operands, statistics, latents, y, maximum, mass, dz)
