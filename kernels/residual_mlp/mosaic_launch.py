"""How the Mosaic GPU kernels of wide layers go through rows: programs, tiles, and the warpgroup that fetches them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from kernels._mosaic import COPYING_REGISTERS, WARPGROUP_ROWS, interpreter, plgpu, swizzled
from kernels._target import Target

# Rows of a tile, which one warpgroup multiplies; the width of all layers, and the rows that copies take together.
SIDE, WIDTH, ROWS_OF_COPIES = WARPGROUP_ROWS, 128, 8
# Registers of a thread of two or three warpgroups that multiply, beside one that copies.
_REGISTERS = {2: 232, 3: 152}


@dataclass(frozen=True)
class MosaicTiling:
    """How the rows are shared by at most so many programs, which run for at least `fewest` rows.

    In the kernel of several layers forward two or three `warpgroups` multiply, and each has at most `places` for tiles
    in shared memory.
    """

    programs: int = 132
    warpgroups: int = 3
    places: int = 2
    fewest: int = 0


@dataclass(frozen=True)
class Rows:
    """The tiles of `count` rows: tile number t of program p has rows from 64 (t programs + p) on.

    Warpgroups take turns, and places, of which each has its own: they count the times that a place was filled.
    """

    count: int
    programs: int
    groups: int
    slots: int  # places for tiles
    target: Target

    @classmethod
    def create(cls, count: int, programs: int, groups: int, places: int, target: Target) -> "Rows":
        """Spread the rows over at most so many programs, whose `groups` warpgroups have so many places each."""
        return cls(count, min(programs, pl.cdiv(count, SIDE)), groups, groups * places, target)

    @property
    def padded(self) -> int:
        """Rows that arrays need: copies fill what lies beyond an array with zeros, the interpreter's do not."""
        return self.count if self.target.compiled else pl.cdiv(self.count, SIDE) * SIDE

    def pad(self, x: jax.Array) -> jax.Array:
        """Append zeros for the interpreter."""
        return jnp.pad(x, ((0, self.padded - len(x)), (0, 0))) if self.padded > len(x) else x

    def result(self, width: int = WIDTH) -> jax.ShapeDtypeStruct:
        """Return the type of an array of rows that the kernel writes."""
        return jax.ShapeDtypeStruct((self.padded, width), jnp.bfloat16)

    def tiles(self, program: Any) -> Any:
        """Return the number of tiles of a program."""
        return lax.div(pl.cdiv(self.count, SIDE) - program + self.programs - 1, jnp.int32(self.programs))

    def at(self, tile: Any, program: Any) -> Any:
        """Return the rows of a tile."""
        return pl.ds((tile * self.programs + program) * SIDE, SIDE)

    def slot(self, tile: Any) -> Any:
        """Return the place of a tile."""
        return lax.rem(tile, jnp.int32(self.slots))


class Places(NamedTuple):
    """Shared memory for the tiles of each array of rows, and the barriers that say which are filled, and done with."""

    arrays: list[Any]
    ready: Any
    used: Any
    parameters_ready: Any

    @classmethod
    def types(cls, rows: Rows, arrays: int, parameters: int) -> "Places":
        """Return what to allocate for so many arrays of rows, and of parameters that are fetched once."""
        return cls(
            [tile(rows.slots)] * arrays,
            plgpu.Barrier(num_arrivals=arrays, num_barriers=rows.slots),
            plgpu.Barrier(num_arrivals=1, num_barriers=rows.slots),
            plgpu.Barrier(num_arrivals=parameters),
        )


def tile(*counts: int, rows: int = SIDE) -> Any:
    """Return bfloat16 tiles in shared memory, as products take them."""
    return plgpu.SMEM((*counts, rows, WIDTH), jnp.bfloat16, transforms=swizzled(WIDTH, jnp.bfloat16, SIDE))


# What a multiplying warpgroup does: its number, that of its program and of the program's tiles.
Work = Callable[[Any, Any, Any], None]


def run(
    kernel: Callable[..., tuple[Sequence[Any], Sequence[tuple[Any, Any]], Places, Work]],
    arrays: Sequence[jax.Array],
    outputs: Sequence[jax.ShapeDtypeStruct],
    scratch: Sequence[Any],
    rows: Rows,
) -> list[jax.Array]:
    """Run programs of which one warpgroup copies and all others work.

    `kernel(inputs, outputs, scratch)` is given references and returns those of the arrays of rows, pairs of parameters
    with their places, the places of the rows, and the work.
    """

    def program(*refs: Any) -> None:
        read, written = refs[: len(arrays)], refs[len(arrays) : len(arrays) + len(outputs)]
        sources, parameters, places, work = kernel(read, written, refs[len(arrays) + len(outputs) :])
        index, group = lax.axis_index("programs"), lax.axis_index("warpgroup")
        tiles = rows.tiles(index)

        @pl.when(group == rows.groups)
        def _() -> None:
            plgpu.set_max_registers(COPYING_REGISTERS, action="decrease")
            for source, kept in parameters:
                plgpu.copy_gmem_to_smem(source, kept, places.parameters_ready)
            _fetch(rows, sources, places, index, tiles)

        @pl.when(group < rows.groups)
        def _() -> None:
            plgpu.set_max_registers(_REGISTERS[rows.groups], action="increase")
            plgpu.barrier_wait(places.parameters_ready)
            work(group, index, tiles)

    return plgpu.kernel(
        program,
        out_type=list(outputs),
        scratch_types=list(scratch),
        grid=(rows.programs,),
        grid_names=("programs",),
        num_threads=rows.groups + 1,
        thread_name="warpgroup",
        compiler_params=plgpu.CompilerParams(approx_math=True, unsafe_no_auto_barriers=True, reduction_scratch_bytes=0),
        interpret=interpreter(rows.target),
    )(*arrays)


def _fetch(rows: Rows, sources: Sequence[Any], places: Places, program: Any, tiles: Any) -> None:
    """Copy one tile after the other, as soon as there is a place for it."""
    zeros = {"oob_mode": plgpu.OOBFillMode.ZEROS} if rows.target.compiled else {}

    def fetch(tile: Any, _: None) -> None:
        slot = rows.slot(tile)
        pl.when(tile >= rows.slots)(lambda: plgpu.barrier_wait(places.used.at[slot]))
        for source, kept in zip(sources, places.arrays, strict=True):
            plgpu.copy_gmem_to_smem(source.at[rows.at(tile, program)], kept.at[slot], places.ready.at[slot], **zeros)

    lax.fori_loop(0, tiles, fetch, None)
    # What was released last has not been waited for.
    for slot in range(rows.slots):
        pl.when(slot < tiles)(lambda slot=slot: plgpu.barrier_wait(places.used.at[slot]))


def each_tile(rows: Rows, places: Places, group: Any, tiles: Any, body: Callable[[Any, Any], None]) -> None:
    """Call `body(tile, slot)` for the tiles of one warpgroup of a program."""

    def turn(index: Any, _: None) -> None:
        tile = index * rows.groups + group
        slot = rows.slot(tile)
        plgpu.barrier_wait(places.ready.at[slot])
        body(tile, slot)
        plgpu.barrier_arrive(places.used.at[slot])

    lax.fori_loop(0, lax.div(tiles - group + rows.groups - 1, jnp.int32(rows.groups)), turn, None)


def across_columns(numbers: Any, columns: int = WIDTH) -> jax.Array:
    """Load a number of each column and repeat it along the rows of a tile."""
    return lax.broadcast_in_dim(plgpu.load(numbers, layout=plgpu.Layout.WGMMA.reduce(0)), (SIDE, columns), [1])


def load_tile(ref: Any) -> jax.Array:
    """Load a tile as float32, in the layout of products."""
    return plgpu.load(ref, layout=plgpu.Layout.WGMMA).astype(jnp.float32)
