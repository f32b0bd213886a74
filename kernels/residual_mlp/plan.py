"""Static decisions of an operation: tiling, precision, the grid of a launch and the layout of the gradients."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import jax
from jax import lax

from kernels._tile_products import Products
from kernels.residual_mlp.mosaic_launch import MosaicTiling
from kernels.residual_mlp.operands import Branch, Operands, Structure, without_rows
from kernels.residual_mlp.tiles import padded

# XLA cuts a product over many rows into parts, and copies both factors to pad rows that these parts do not divide.
_FACTOR_ROWS = 1024


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How one pass is cut into programs.

    `rows` per tile; at most `programs` programs, each looping over its tiles; `columns` of the largest weight block;
    `resident` reads all weights before the first tile instead of layer by layer; `parallel` gives each branch its own
    programs; `depth` layers share a launch, all if it is None; `transposed` holds tiles as `[C, rows]`, which suits the
    tensor cores when C is at least 128; `precast` rounds the weights to the dtype of x before the launch.

    Backward only: `carried` keeps the weight gradients of a looping program in registers instead of in its memory slot;
    `factored` leaves the weight gradients to matrix products outside, of factors that the kernel stores: those of XLA,
    or of a kernel that does so many `parts` of the rows side by side.
    """

    rows: int
    warps: int
    stages: int = 1
    programs: int = 65536
    columns: int = 128
    resident: bool = False
    parallel: bool = True
    transposed: bool = False
    precast: bool = False
    depth: int | None = None
    carried: bool = False
    factored: bool = False
    parts: int | None = None

    @property
    def padded_factors(self) -> bool:
        """Whether factors have rows for all that programs cover, as XLA needs them: those of absent rows are zeros."""
        return self.factored and self.parts is None


@dataclass(frozen=True)
class Plan:
    """Everything static about the fused kernels on one target.

    `separate` gives every branch launches of its own instead of programs of one launch; `numbers` is what the
    target, or the Pallas interpreter, offers for arithmetic. With `mosaic` the kernels are Mosaic GPU's instead.
    """

    structure: Structure
    precision: lax.Precision
    numbers: Products
    forward: Tiling
    backward: Tiling
    separate: bool = False
    mosaic: MosaicTiling | None = None


@dataclass(frozen=True)
class Launch:
    """The grid of one pass: `groups` of branches times `programs`, each doing `tiles` tiles of the `count` rows."""

    tiling: Tiling
    count: int
    groups: int
    programs: int
    tiles: int
    chunks: int = 1

    @property
    def covered(self) -> int:
        """Rows that one launch covers."""
        return self.programs * self.tiles * self.tiling.rows

    @property
    def masked(self) -> bool:
        """Whether some tile overruns the rows."""
        return self.chunks * self.covered != self.count


def plan_launch(tiling: Tiling, count: int, branches: int, largest_chunk: int | None = None) -> Launch:
    """Spread the tiles of `count` rows evenly over programs, in several launches of about `largest_chunk` rows.

    With a `largest_chunk`, which is for launches that store factors, the number of rows is a multiple of _FACTOR_ROWS
    if there are programs enough.
    """
    groups = branches if tiling.parallel else 1
    total = -(-count // tiling.rows)
    chunks = 1 if largest_chunk is None else -(-total // max(1, largest_chunk // tiling.rows))
    most = max(1, tiling.programs // groups)
    step = 1
    if largest_chunk is not None:
        step = min(-(-_FACTOR_ROWS // tiling.rows), most)
        most -= most % step
    of_chunk = -(-total // chunks)
    tiles = -(-of_chunk // most)
    programs = -(-of_chunk // (tiles * step)) * step
    return Launch(tiling, count, groups, programs=programs, tiles=tiles, chunks=-(-total // (programs * tiles)))


@dataclass(frozen=True)
class Section:
    """Where parameter number `index` has its gradient: rows from `start` on and `columns` columns of a gradient slot.

    `group` is the branch group whose slot holds it; None for parameters that all groups contribute to. A vector is a
    section of one row. The blocks that the kernels write may overrun the section: slots have room for that.
    """

    index: int
    group: int | None
    start: int
    rows: int
    columns: int
    is_matrix: bool


@dataclass(frozen=True)
class GradientSlots:
    """The slot `[height, width]` of one program, and the section of every parameter in it.

    All parameters share one slot so that one reduction over the programs serves them all.
    """

    height: int
    width: int
    sections: Operands


def plan_slots(operands: Operands, launch: Launch) -> GradientSlots:
    """Lay out the gradients: shared parameters first, then the branches, in one slot or in one slot per group.

    Matrices take no room when their gradients come from factors.
    """
    shared = without_rows(operands)._replace(branches=())
    numbers = count()
    cursor, shared = _stack(shared, numbers, 0, None, launch.tiling)
    top, branches = cursor, []
    for index, branch in enumerate(operands.branches):
        start, group = (top, index) if launch.groups > 1 else (cursor, 0)
        end, sections = _stack(branch, numbers, start, group, launch.tiling)
        cursor = max(cursor, end)
        branches.append(sections)
    sections = shared._replace(branches=tuple(branches))
    width = max(padded(section.columns, launch.tiling.columns) for section in jax.tree.leaves(sections))
    return GradientSlots(height=cursor, width=width, sections=sections)


def _stack(
    tree: Operands | Branch, numbers: Iterator[int], start: int, group: int | None, tiling: Tiling
) -> tuple[int, Operands | Branch]:
    """Place the leaves of `tree` from row `start` on; return the row after them and the tree of sections."""
    leaves, treedef = jax.tree.flatten(tree)
    sections = []
    for leaf in leaves:
        is_matrix = len(leaf.shape) == 2
        rows = leaf.shape[0] if is_matrix else 1
        sections.append(Section(next(numbers), group, start, rows, leaf.shape[-1], is_matrix))
        if not is_matrix:
            start += 1
        elif not tiling.factored:
            start += padded(rows, tiling.columns)
    return start, jax.tree.unflatten(treedef, sections)
