"""How kernels of Mosaic GPU in which rows meet a stream are cut into programs and launched, and their products."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from kernels._mosaic import WARPGROUP_ROWS, interpreter, orders, plgpu, swizzled
from kernels._target import Target
from kernels._tiles import padded_width
from kernels._triton import fold_vmap

# Rows of a product; the warpgroups that multiply in the kernel of all gradients, and the points that they meet at once.
SIDE = WARPGROUP_ROWS
GROUPS = 2
TILE = GROUPS * SIDE
# What a program can have of shared memory, less what barriers and reductions take.
_SHARED_BYTES = 232_448 - 2048


@dataclass(frozen=True)
class Tiles:
    """How one kernel is launched.

    Each of `warpgroups` warpgroups of a program owns `tiles` times 64 rows and meets the stream in tiles of `stream`,
    of which `stages` are in flight; the stream is split so that about `programs` programs run. `operands` are the
    arrays that lie in shared memory per row and per element of the stream, `results` those that are written.
    """

    stream: int = 128
    programs: int = 528
    stages: int = 2
    warpgroups: int = 2
    tiles: int = 1
    operands: int = 2
    results: int = 1

    @property
    def rows(self) -> int:
        """Rows of a program."""
        return SIDE * self.warpgroups * self.tiles

    def shared_bytes(self, width: int, item: int) -> int:
        """Return about how many bytes of shared memory a program has: bfloat16 parts of operands of `item` bytes."""
        parts, rows = 1 if item == 2 else 3, self.rows
        operands = 2 * parts * self.operands * width * (rows + self.stages * self.stream)
        return operands + 4 * self.results * width * rows


@dataclass(frozen=True)
class PairTiles:
    """How the kernel of all gradients is launched.

    Points are split so that about `programs` programs run; `stages` tiles of latents and `slots` of points have places.
    Where another kernel can run, this one does for heads of at least `fewest` pairs.
    """

    programs: int = 264
    stages: int = 2
    slots: int = 2
    fewest: int = 0

    def bytes_for(self, latents: int, width: int) -> int:
        """Return how many bytes of shared memory a program has, for so many latents of a padded width."""
        tiles = 2 * 3 * SIDE * width * GROUPS * (self.stages + self.slots)
        numbers = 4 * SIDE * GROUPS * (3 * self.stages + 2 * self.slots)
        return tiles + numbers + 2 * TILE * TILE + 4 * TILE * width + 4 * latents * width

    def fits(self, latents: int, width: int) -> bool:
        """Return whether the gradients of so many queries fit beside what a program reads."""
        return self.bytes_for(-(-latents // TILE) * TILE, padded_width(width)) <= _SHARED_BYTES


@dataclass(frozen=True)
class MosaicBlocks:
    """The launches of the forward passes and the latents' gradient, and of the operands' gradients.

    `pairs` is that of all gradients in one kernel, None where there is none.
    """

    read: Tiles
    slopes: Tiles
    pairs: PairTiles | None = None


@dataclass(frozen=True)
class Shape:
    """Sizes of a launch, padded: `tiles` of rows, and `splits` of the stream of at most `steps` tiles each."""

    heads: int
    rows: int
    stream: int
    tiles: int
    splits: int
    steps: int

    @classmethod
    def create(cls, rows: jax.Array, stream: jax.Array, blocks: Tiles, single: bool, target: Target) -> "Shape":
        """Cut rows `[B, R, H, D]` and a stream `[B, S, H, D]`, which a `single` split leaves whole."""
        batch, count, heads, _ = rows.shape
        tiles = pl.cdiv(count, blocks.rows)
        steps = pl.cdiv(stream.shape[1], blocks.stream)
        splits = 1 if single else min(steps, max(1, blocks.programs // (batch * heads * tiles * target.copies)))
        per_split = pl.cdiv(steps, splits)
        padded_rows, padded_stream = tiles * blocks.rows, steps * blocks.stream
        return cls(heads, padded_rows, padded_stream, tiles, pl.cdiv(steps, per_split), per_split)

    def pad_rows(self, x: jax.Array) -> jax.Array:
        """Append zeros to `[B, R, H, D]`."""
        return _pad(x, self.rows)

    def pad_stream(self, x: jax.Array) -> jax.Array:
        """Append zeros to `[B, S, H, D]`."""
        return _pad(x, self.stream)

    def hide(self, bias: jax.Array | None, batch: int, length: int) -> jax.Array | None:
        """Return the bias `[B, H, stream]` that hides what was appended to `length` elements, None if there is none."""
        if self.stream == length:
            return bias
        if bias is None:
            bias = jnp.zeros((batch, self.heads, length))
        return jnp.pad(bias, ((0, 0), (0, 0), (0, self.stream - length)), constant_values=-jnp.inf)


def pad_numbers(x: jax.Array, length: int) -> jax.Array:
    """Append zeros to `[B, H, N]`."""
    return jnp.pad(x, ((0, 0), (0, 0), (0, length - x.shape[-1])))


def _pad(x: jax.Array, length: int) -> jax.Array:
    extra = ((0, 0), (0, length - x.shape[1]), (0, 0), (0, padded_width(x.shape[-1]) - x.shape[-1]))
    return jnp.pad(x, extra) if any(after for _, after in extra) else x


@dataclass(frozen=True)
class Place:
    """Where a warpgroup is: its batch and head, its tiles of rows, and its part of the stream of `steps` tiles."""

    batch: jax.Array
    head: jax.Array
    group: jax.Array
    split: jax.Array
    rows: list[Any]
    stream: Any
    steps: jax.Array

    @classmethod
    def here(cls, shape: Shape, blocks: Tiles) -> "Place":
        """Return the place of the warpgroup that traces this."""
        batch, index = lax.axis_index("batch"), lax.axis_index("programs")
        head, index = lax.rem(index, jnp.int32(shape.heads)), lax.div(index, jnp.int32(shape.heads))
        group = lax.axis_index("warpgroup")
        tile, split = lax.rem(index, jnp.int32(shape.tiles)), lax.div(index, jnp.int32(shape.tiles))
        length = shape.steps * blocks.stream
        start = (tile * blocks.warpgroups + group) * blocks.tiles
        steps = jnp.minimum(shape.steps, shape.stream // blocks.stream - split * shape.steps)
        rows = [pl.ds((start + i) * SIDE, SIDE) for i in range(blocks.tiles)]
        return cls(batch, head, group, split, rows, pl.ds(split * length, length), steps)


def launch(
    kernel: Callable[..., None],
    operands: Any,
    outputs: Callable[[int], Sequence[jax.ShapeDtypeStruct]],
    scratch: Sequence[Any],
    shape: Shape,
    blocks: Tiles,
    target: Target,
) -> list[jax.Array]:
    """Run `kernel(references to the tree of operands, references to the outputs, *scratch)` for all rows and splits.

    The first axis of every operand and output is the batch, whose size `outputs` is given.
    """
    arrays, structure = jax.tree.flatten(operands)

    def run(*arrays: jax.Array) -> list[jax.Array]:
        types = list(outputs(arrays[0].shape[0]))

        def flat(*refs: Any) -> None:
            written = refs[len(arrays) : len(arrays) + len(types)]
            kernel(structure.unflatten(refs[: len(arrays)]), written, *refs[len(arrays) + len(types) :])

        return plgpu.kernel(
            flat,
            out_type=types,
            scratch_types=list(scratch),
            # The last axis runs fastest and may be long; neighbouring heads share sectors of memory.
            grid=(arrays[0].shape[0], shape.tiles * shape.splits * shape.heads),
            grid_names=("batch", "programs"),
            num_threads=blocks.warpgroups + 1,
            thread_name="warpgroup",
            compiler_params=plgpu.CompilerParams(approx_math=True, unsafe_no_auto_barriers=True),
            interpret=interpreter(target),
        )(*arrays)

    # The interpreter has effects, which a rule for vmap takes no part in.
    return (fold_vmap(run) if target.compiled else run)(*arrays)


def row_tiles(blocks: Tiles, width: int, dtype: Any) -> Any:
    """Return shared memory for each tile `[64, width]` of each warpgroup."""
    shape = (blocks.warpgroups * blocks.tiles, SIDE, width)
    return plgpu.SMEM(shape, dtype, transforms=swizzled(width, dtype, blocks.stream))


def row_numbers(blocks: Tiles) -> Any:
    """Return shared memory for a float32 number of each row of each warpgroup."""
    return plgpu.SMEM((blocks.warpgroups * blocks.tiles, SIDE), jnp.float32)


def weights_memory(blocks: Tiles, parts: int, dtype: Any, target: Target) -> list[Any]:
    """Return shared memory for left factors made in registers, where they cannot stay.

    The interpreter multiplies nothing but shared memory.
    """
    return [] if target.compiled else [row_tiles(blocks, blocks.stream, dtype)] * parts


def streamed_tile(blocks: Tiles, width: int) -> Any:
    """Return the specification of a streamed bfloat16 tile."""
    transforms = swizzled(width, jnp.bfloat16, blocks.stream)
    return plgpu.BlockSpec((blocks.stream, width), lambda i: (i, 0), transforms=transforms)


def streamed_numbers(blocks: Tiles) -> Any:
    """Return the specification of a streamed vector."""
    return plgpu.BlockSpec((blocks.stream,), lambda i: (i,))


def multiply(left: Sequence[Any], right: Sequence[Any], shape: tuple[int, int]) -> jax.Array:
    """Multiply two operands in parts, with float32 sums; right ones lie in shared memory."""

    def products(sums: Any) -> jax.Array:
        start_product(sums, left, right)
        return sums[...]

    return pl.run_scoped(products, plgpu.ACC(shape, jnp.float32))


def start_product(sums: Any, left: Sequence[Any], right: Sequence[Any]) -> None:
    """Let the tensor cores add the product of two operands in parts to an accumulator."""
    for i, j in orders(len(left)):
        plgpu.wgmma(sums, left[i], right[j])


def as_left_factor(places: Sequence[Any], parts: Sequence[jax.Array]) -> Sequence[Any]:
    """Return the parts of a tile as the left factor of a product: in registers, or in `places` where there are any."""
    for place, part in zip(places, parts, strict=False):
        place[...] = part
    return places or parts


def across_rows(numbers: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Repeat a number of each row along it."""
    return lax.broadcast_in_dim(numbers, shape, [0])


def across_columns(numbers: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Repeat a number of each column along it."""
    return lax.broadcast_in_dim(numbers, shape, [1])


def zeros(*shape: int) -> jax.Array:
    """Return float32 zeros in the layout of products, of rows where there is one size."""
    layout = plgpu.Layout.WGMMA if len(shape) == 2 else plgpu.Layout.WGMMA.reduce(1)
    return plgpu.layout_cast(jnp.zeros(shape, jnp.float32), layout)
