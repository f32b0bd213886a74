"""What `benchmarks.search` needs to know about the residual MLP: candidates of both tilings, how to run a pass.

The backward pass is timed with the forward pass. Branches are added up, so that there is one output.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import mlp
from benchmarks.cases import MlpShape
from benchmarks.mlp import Setting
from benchmarks.search_launches import rebuild, with_gradients
from kernels._implementation import Request
from kernels._operation import Operation
from kernels.residual_mlp import table as tables
from kernels.residual_mlp.mosaic_launch import MosaicTiling
from kernels.residual_mlp.plan import Tiling
from kernels.residual_mlp.table import Blocks

KERNELS = ("forward", "backward")
IMPLEMENTATIONS = ("pallas",)
# What the op is compared with at full size.
PEER = "reference"


def setting_of(shape: MlpShape, dtype: str) -> Setting:
    """Return the call: products of float32 rows are TF32, as in training."""
    return Setting(shape.part, shape.rows, shape.channels, "bf16" if dtype == "bfloat16" else "tf32")


parse_blocks = functools.partial(rebuild, Blocks)


def table(shape: MlpShape, dtype: str, implementation: str) -> Blocks:
    """Return the tilings that the op takes now."""
    branches = 2 if shape.part == "branches" else 1
    rows = shape.rows * shape.copies * branches
    request = Request(setting_of(shape, dtype).arithmetic, shape.channels, rows)
    return tables.OPERATION.launch_for(implementation, request).blocks


def with_kernel(start: Blocks, kernel: str, launch: Blocks) -> Blocks:
    """Return `start` with the tiling of one pass, and what it shares with the other, taken from `launch`."""
    return replace(start, **{kernel: getattr(launch, kernel)}, separate=launch.separate, mosaic=launch.mosaic)


def tile_candidates(shape: MlpShape, dtype: str, kernel: str, start: Blocks) -> Iterator[Blocks]:
    """Yield `start`, then other tiles, warps and numbers of programs; of wide layers, those of single layers first."""
    yield start
    if start.mosaic is not None:
        yield from (replace(start, mosaic=tiling) for tiling in _mosaic(start.mosaic))
        start = replace(start, mosaic=None)
        yield start
    if shape.channels >= 128:
        yield from (replace(start, **{kernel: tiling}) for tiling in _single_layers(kernel, start))
    if kernel == "backward" and start.backward.factored:
        yield from (replace(start, backward=tiling) for tiling in _factored(start.backward))
        return
    few = shape.rows * shape.copies <= 4096
    if kernel == "backward" and shape.rows <= 4096:
        for (rows, warps), parts in itertools.product(((16, 8), (32, 8), (16, 4)), (8, 16, 32)):
            # Parts are those of one copy: together they should fill the device once.
            own = max(2, parts // shape.copies)
            yield replace(start, backward=Tiling(rows=rows, warps=warps, factored=True, parts=own))
    counts = (65_536,) if few else (132, 264, 65_536)
    transposed = (False, True) if shape.channels >= 128 else (False,)
    for rows, warps, programs, flip in itertools.product((16, 32, 64, 128), (4, 8, 16), counts, transposed):
        if rows * shape.channels > (64 if kernel == "forward" else 32) * 32 * warps:
            continue
        for resident in (False, True):
            plain = Tiling(rows=rows, warps=warps, programs=programs, resident=resident, transposed=flip)
            yield replace(start, **{kernel: plain})
            if kernel == "backward" and not few:
                yield replace(start, backward=replace(plain, carried=True))


def _mosaic(start: MosaicTiling) -> Iterator[MosaicTiling]:
    """Yield other numbers of programs, warpgroups and places of Mosaic GPU's kernels."""
    for programs, warpgroups, places in itertools.product((132, 264), (2, 3), (1, 2)):
        yield replace(start, programs=programs, warpgroups=warpgroups, places=places)


def _single_layers(kernel: str, start: Blocks) -> Iterator[Tiling]:
    """Yield tilings of launches of one layer each, whose weights and gradients a program holds."""
    options = {"resident": True, "depth": 1, "precast": start.forward.precast, "carried": kernel == "backward"}
    sizes = ((64, 8), (32, 8), (64, 16), (128, 16), (64, 4))
    for (rows, warps), transposed, programs in itertools.product(sizes, (True, False), (132, 264, 528)):
        yield Tiling(rows=rows, warps=warps, transposed=transposed, programs=programs, **options)


def _factored(start: Tiling) -> Iterator[Tiling]:
    """Yield other tiles and warps of a launch that leaves the products of weight gradients to XLA."""
    sizes = ((32, 8), (16, 8), (64, 8), (32, 16), (16, 4), (32, 4))
    for stages, (rows, warps), resident in itertools.product((2, 1), sizes, (True, False)):
        programs = start.programs if resident else 2 * start.programs
        yield replace(start, rows=rows, warps=warps, stages=stages, resident=resident, programs=programs)


def launch_candidates(shape: MlpShape, dtype: str, kernel: str, best: Iterable[Blocks]) -> Iterator[Blocks]:
    """Yield variations of stages, of rounded weights, of stored factors, and of launches for every branch."""
    for start in best:
        tiling: Tiling = getattr(start, kernel)
        variations = [replace(tiling, stages=2), replace(tiling, precast=True)]
        if kernel == "backward":
            factored = replace(tiling, factored=True, carried=True)
            variations += [factored, replace(factored, programs=4096), replace(factored, programs=128, resident=True)]
        yield from (replace(start, **{kernel: x}) for x in variations)
        if shape.part == "branches":
            yield replace(start, separate=not start.separate)


class Bench:
    """The op at one shape with its inputs on the device."""

    def __init__(self, shape: MlpShape, dtype: str, implementation: str):
        self.shape, self.dtype = shape, dtype
        self._operands = self.operands(shape.rows)

    def operands(self, points: int) -> tuple[Any, ...]:
        """Return random parameters, then rows; copies have a first axis of their own, and the same numbers."""
        setting = setting_of(self.shape, self.dtype)._replace(rows=points)
        x, *others = mlp.make_arrays(setting)["operands"]
        if self.shape.copies > 1:
            copies = self.shape.copies
            x, others = jax.tree.map(lambda y: jnp.broadcast_to(y, (copies, *y.shape)), (x, others))
        return tuple(others), x

    def call(self, blocks: Blocks | str) -> Callable[[tuple[Any, ...]], jax.Array]:
        """Return the op with these tilings, or the named implementation, as a function of its operands."""
        setting = setting_of(self.shape, self.dtype)

        def apply(operands: tuple[Any, ...]) -> jax.Array:
            others, x = operands
            name = blocks if isinstance(blocks, str) else "pallas"
            call = functools.partial(mlp.apply, setting, name)
            return sum((jax.vmap(call) if self.shape.copies > 1 else call)((x, *others)))

        return apply if isinstance(blocks, str) else functools.partial(_launched, blocks, apply)

    def program(self, kernel: str, blocks: Blocks) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return a pass as a function and its arguments; the rows stand in for the cotangent."""
        call = self.call(blocks)
        return call if kernel == "forward" else functools.partial(with_gradients, call), (self._operands,)


def _launched(blocks: Blocks, call: Callable[..., jax.Array], operands: tuple[Any, ...]) -> jax.Array:
    """Trace the call with these tilings in the place of the table."""
    table: Operation = tables.OPERATION
    tables.OPERATION = table.with_launch(blocks)
    try:
        return call(operands)
    finally:
        tables.OPERATION = table
