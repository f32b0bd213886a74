"""All gradients of the mixer's operands in one Mosaic GPU kernel, each pair of a point and a latent once.

A program owns one head and a part of its points. Its two warpgroups own half of the latents each, of which they read
tiles of 64 for every 128 points; one more fetches tiles ahead of them. The gradients of the queries are summed in
shared memory as long as the program runs, those of keys and values in registers; their halves are added at the end of
each 128 points.
One exponential serves both softmaxes where `kernels/flare_mixer/one_exponential.py` allows it; other heads take two, in
the same launch.
"""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from kernels._mosaic import COPYING_REGISTERS, interpreter, plgpu, swizzled
from kernels._target import Target
from kernels._triton import fold_vmap
from kernels.flare_mixer.mosaic_launch import GROUPS, SIDE, TILE, PairTiles, zeros
from kernels.flare_mixer.mosaic_pair_arrays import Gradients, Latents, Points, Shape
from kernels.flare_mixer.mosaic_pair_products import Columns, Pair, Rows, Sums, column_numbers

# What a multiprocessor has left for each of the two beside the one that copies.
_REGISTERS = 232


def pair_gradients(
    points: Points, latents: Latents, near: jax.Array, scale: float, blocks: PairTiles, target: Target
) -> Gradients:
    """Return the gradients; `near` `[B, H]` bool tells which heads take one exponential."""
    count, existing = points.keys.shape[1], latents.queries.shape[2]
    shape = Shape.create(points, latents, blocks, target)
    kernel = _Kernel(shape, scale, blocks, target, existing != shape.latents)
    found = kernel.launch(shape.pad_points(points, target), shape.pad_latents(latents), near.astype(jnp.int32))
    width, channels = points.keys.shape[-1], points.values.shape[-1]
    return Gradients(
        found.keys[:, :count, :, :width],
        found.values[:, :count, :, :channels],
        found.queries[:, :, :, :existing, :width],
    )


class _Memory(NamedTuple):
    """A program's shared memory, and the barriers that tell when a part is filled, and when it may be filled again."""

    points: list[Any]
    point_numbers: list[Any]
    latents: list[Any]
    latent_numbers: list[Any]
    slopes: Any
    queries: Any
    exchange: Any
    weights: list[Any]
    points_ready: Any
    points_used: Any
    latents_ready: Any
    latents_used: Any
    written: Any
    read: Any


@dataclass(frozen=True)
class _Kernel:
    """The kernel of one launch; `ragged` tells whether latents were appended."""

    shape: Shape
    scale: float
    blocks: PairTiles
    target: Target
    ragged: bool

    def launch(self, points: Points, latents: list[jax.Array], near: jax.Array) -> Gradients:
        """Run it for all heads and splits of the points."""
        shape = self.shape

        def run(*arrays: jax.Array) -> list[jax.Array]:
            batch, count = arrays[0].shape[:2]
            rows = (batch, count, shape.heads)
            types = [jax.ShapeDtypeStruct((*rows, shape.width), jnp.bfloat16)] * 2
            sums = (batch, shape.heads, shape.splits, shape.latents, shape.width)
            return plgpu.kernel(
                self._program,
                out_type=[*types, jax.ShapeDtypeStruct(sums, jnp.float32)],
                scratch_types=list(self._memory()),
                grid=(batch, shape.splits * shape.heads),
                grid_names=("batch", "programs"),
                num_threads=GROUPS + 1,
                thread_name="warpgroup",
                compiler_params=plgpu.CompilerParams(approx_math=True, unsafe_no_auto_barriers=True),
                interpret=interpreter(self.target),
            )(*arrays)

        return Gradients(*(fold_vmap(run) if self.target.compiled else run)(*points, *latents, near))

    @property
    def pair(self) -> Pair:
        """The products of two tiles."""
        return Pair(self.scale, self.shape.width)

    def _memory(self) -> _Memory:
        shape, stages, slots = self.shape, self.blocks.stages, self.blocks.slots
        # Products take both factors with one swizzle.
        swizzle = swizzled(shape.width, jnp.bfloat16, SIDE)

        def tiles(count: int) -> list[Any]:
            return [plgpu.SMEM((count, SIDE, shape.width), jnp.bfloat16, transforms=swizzle)] * 3

        def numbers(count: int, kinds: int) -> list[Any]:
            return [plgpu.SMEM((count, SIDE), jnp.float32)] * kinds

        def sums(count: int) -> Any:
            transforms = swizzled(shape.width, jnp.float32, SIDE)
            return plgpu.SMEM((count, SIDE, shape.width), jnp.float32, transforms=transforms)

        square = plgpu.SMEM((GROUPS * 2, SIDE, SIDE), jnp.bfloat16, transforms=swizzle)
        kinds = 2 + self.ragged
        return _Memory(
            tiles(slots * GROUPS),
            numbers(slots * GROUPS, 2),
            tiles(stages * GROUPS),
            numbers(stages * GROUPS, kinds),
            square,
            sums(shape.latents // SIDE),
            sums(GROUPS),
            [] if self.target.compiled else [square],
            plgpu.Barrier(num_arrivals=5 * GROUPS, num_barriers=slots),
            plgpu.Barrier(num_arrivals=GROUPS, num_barriers=slots),
            plgpu.Barrier(num_arrivals=3 + kinds, num_barriers=stages * GROUPS),
            plgpu.Barrier(num_arrivals=1, num_barriers=stages * GROUPS),
            plgpu.Barrier(num_arrivals=GROUPS),
            plgpu.Barrier(num_arrivals=GROUPS),
        )

    def _program(self, *refs: Any) -> None:
        latents = 5 + self.ragged
        points, refs = refs[:5], refs[5:]
        latents, near, outputs, refs = (
            refs[:latents],
            refs[latents],
            refs[latents + 1 : latents + 4],
            refs[latents + 4 :],
        )
        memory = _Memory(*refs)
        batch, index, group = (lax.axis_index(name) for name in ("batch", "programs", "warpgroup"))
        head, split = lax.rem(index, jnp.int32(self.shape.heads)), lax.div(index, jnp.int32(self.shape.heads))
        first = split * self.shape.tiles
        tiles = jnp.minimum(self.shape.tiles, self.shape.points // TILE - first)

        @pl.when(group == GROUPS)
        def _() -> None:
            plgpu.set_max_registers(COPYING_REGISTERS, action="decrease")
            self._fetch(points, latents, memory, batch, head, first, tiles)

        @pl.when(group < GROUPS)
        def _() -> None:
            plgpu.set_max_registers(_REGISTERS, action="increase")
            one = near[batch, head] != 0
            work = functools.partial(self._work, outputs, memory, batch, head, split, group, first, tiles)
            pl.when(one)(lambda: work(self.pair.near))
            pl.when(jnp.logical_not(one))(lambda: work(self.pair.far))

    def _fetch(self, points: Any, latents: Any, memory: _Memory, batch: Any, head: Any, first: Any, tiles: Any) -> None:
        """Copy tiles of points, and for each all tiles of latents, as soon as there is a place for them."""
        stages, slots, steps = self.blocks.stages, self.blocks.slots, self.shape.steps

        def fetch_points(index: Any) -> None:
            slot = lax.rem(index, jnp.int32(slots))
            pl.when(index >= slots)(lambda: plgpu.barrier_wait(memory.points_used.at[slot]))
            for part in range(GROUPS):
                rows, place = pl.ds(((first + index) * GROUPS + part) * SIDE, SIDE), slot * GROUPS + part
                for source, kept in zip(points[:3], memory.points, strict=True):
                    self._copy(source.at[batch, rows, head], kept.at[place], memory.points_ready.at[slot], zeros=True)
                for source, kept in zip(points[3:], memory.point_numbers, strict=True):
                    self._copy(source.at[batch, head, rows], kept.at[place], memory.points_ready.at[slot])

        def fetch_latents(index: Any, step: Any) -> None:
            stage = lax.rem(index * steps + step, jnp.int32(stages))
            for group in range(GROUPS):
                place = stage * GROUPS + group
                pl.when(index * steps + step >= stages)(
                    lambda place=place: plgpu.barrier_wait(memory.latents_used.at[place])
                )
                rows = pl.ds((group * steps + step) * SIDE, SIDE)
                for source, kept in zip(latents, (*memory.latents, *memory.latent_numbers), strict=True):
                    self._copy(source.at[batch, head, rows], kept.at[place], memory.latents_ready.at[place])

        def tile(index: Any, _: None) -> None:
            fetch_points(index)
            lax.fori_loop(0, steps, lambda step, _: fetch_latents(index, step), None)

        lax.fori_loop(0, tiles, tile, None)
        # What was released last has not been waited for.
        for slot in range(slots):
            pl.when(slot < tiles)(functools.partial(plgpu.barrier_wait, memory.points_used.at[slot]))
        for place in range(stages * GROUPS):
            used = memory.latents_used.at[place]
            pl.when(place // GROUPS < tiles * steps)(functools.partial(plgpu.barrier_wait, used))

    def _copy(self, source: Any, kept: Any, barrier: Any, zeros: bool = False) -> None:
        mode = {"oob_mode": plgpu.OOBFillMode.ZEROS} if zeros and self.target.compiled else {}
        plgpu.copy_gmem_to_smem(source, kept, barrier, **mode)

    def _work(
        self,
        outputs: Any,
        memory: _Memory,
        batch: Any,
        head: Any,
        split: Any,
        group: Any,
        first: Any,
        tiles: Any,
        pair: Any,
    ) -> None:
        """Meet the warpgroup's half of the latents with all points of the program."""
        shape, steps = self.shape, self.shape.steps

        def clear(step: Any, _: None) -> None:
            memory.queries.at[group * steps + step][...] = zeros(SIDE, shape.width)

        def tile(index: Any, _: None) -> None:
            slot = lax.rem(index, jnp.int32(self.blocks.slots))
            plgpu.barrier_wait(memory.points_ready.at[slot])
            # The first is the warpgroup's own, whose gradients it writes.
            places = [slot * GROUPS + part for part in (group, 1 - group)]
            rows = [self._rows(memory, place) for place in places]
            sums = Sums(*[zeros(SIDE, shape.width)] * 4)
            sums = lax.fori_loop(
                0, steps, lambda step, sums: self._step(memory, group, index, step, rows, pair, sums), sums
            )
            keys = (sums.keys + self._exchange(memory, group, sums.other_keys)) * self.scale
            values = sums.values + self._exchange(memory, group, sums.other_values)
            # Both have read the tile, whose place takes the results.
            start = pl.ds(((first + index) * GROUPS + group) * SIDE, SIDE)
            for kept, result in zip(rows[0][:2], (keys, values), strict=True):
                kept[...] = result.astype(jnp.bfloat16)
            plgpu.commit_smem()
            for kept, written in zip(rows[0][:2], outputs[:2], strict=True):
                plgpu.copy_smem_to_gmem(kept, written.at[batch, start, head])
            plgpu.wait_smem_to_gmem(0, wait_read_only=True)
            plgpu.barrier_arrive(memory.points_used.at[slot])

        def write(step: Any, _: None) -> None:
            place = group * steps + step
            rows = pl.ds(place * SIDE, SIDE)
            plgpu.copy_smem_to_gmem(memory.queries.at[place], outputs[2].at[batch, head, split, rows])

        lax.fori_loop(0, steps, clear, None)
        lax.fori_loop(0, tiles, tile, None)
        plgpu.commit_smem()
        lax.fori_loop(0, steps, write, None)
        plgpu.wait_smem_to_gmem(0)

    def _rows(self, memory: _Memory, place: Any) -> Rows:
        numbers = [plgpu.load(x.at[place], layout=plgpu.Layout.WGMMA.reduce(1)) for x in memory.point_numbers]
        return Rows(*[x.at[place] for x in memory.points], *numbers)

    def _exchange(self, memory: _Memory, group: Any, sums: jax.Array) -> jax.Array:
        """Give the other warpgroup its sums and return what it gives."""
        mine, theirs = memory.exchange.at[group], memory.exchange.at[1 - group]
        mine[...] = sums
        plgpu.barrier_arrive(memory.written)
        plgpu.barrier_wait(memory.written)
        given = plgpu.load(theirs, layout=plgpu.Layout.WGMMA)
        plgpu.barrier_arrive(memory.read)
        plgpu.barrier_wait(memory.read)
        return given

    def _step(
        self, memory: _Memory, group: Any, index: Any, step: Any, rows: list[Rows], pair: Any, sums: Sums
    ) -> Sums:
        """Meet one tile of latents with both tiles of points."""
        stage = lax.rem(index * self.shape.steps + step, jnp.int32(self.blocks.stages))
        place = stage * GROUPS + group
        plgpu.barrier_wait(memory.latents_ready.at[place])
        mean, maximum, *hidden = (x.at[place] for x in memory.latent_numbers)
        columns = Columns(
            *[x.at[place] for x in memory.latents],
            column_numbers(mean),
            maximum,
            column_numbers(hidden[0]) if hidden else None,
        )
        slopes = [memory.slopes.at[group * 2 + tile] for tile in range(2)]
        sums, queries = pair(rows, columns, slopes, [x.at[group * 2] for x in memory.weights], sums)
        plgpu.barrier_arrive(memory.latents_used.at[place])
        total = memory.queries.at[group * self.shape.steps + step]
        total[...] = plgpu.load(total, layout=plgpu.Layout.WGMMA) + queries
        return sums
