"""How kernels over pairs of points and latents are cut into programs, and which part of each array a program sees.

The grid is (heads x tiles of latents, splits of the points, batch) with heads varying fastest, so that programs which
run at the same time read neighbouring heads of the same points: at small head widths these share memory sectors.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels._pallas import Operand, Output, pallas_call
from kernels._target import Target
from kernels._tiles import Products, is_split, padded_width
from kernels._triton_lowering import plt


@dataclass(frozen=True)
class Blocks:
    """How one kernel is launched.

    `points` and `latents` are the sides of a tile; the points are split so that about `programs` programs run in all;
    `warps` and `stages` are Triton's. In the kernel of the operands' gradients `group` tiles of points share a
    pass over the latents, whose gradients travel between memory and registers once per pass, and with `one_exponential`
    both softmaxes share one where the range of the logits allows it, with common logits only. With
    `bounded` a forward kernel takes a bound of the logits for their maximum where one is given and close
    (`kernels/_bounds.py`). With `polynomial_every` one exponential of so many, 2, 4 or 8, of a forward kernel or of the
    latents' gradient is a polynomial (`kernels/_exponentials.py`), in bfloat16 only, for heads of at least
    `polynomial_latents` latents. With `joined` the two parts of float32 lie side by side in one tile, so that a product
    is two instructions that wait for each other in the place of three (`Products`). With `held` the forward kernels
    take a number known early for the running maximum (`kernels/_held.py`).
    """

    points: int
    latents: int
    programs: int
    warps: int
    stages: int = 2
    group: int = 1
    one_exponential: bool = False
    bounded: bool = False
    polynomial_every: int = 0
    polynomial_latents: int = 0
    joined: bool = False
    held: bool = False

    def shared_bytes(self, width: int, item: int) -> int:
        """Return about how many bytes of shared memory a program has: staged operands and weights, of `item` bytes."""
        return item * (self.stages * 2 * (self.points + self.latents) * width + self.points * self.latents)


@dataclass(frozen=True)
class Tiling:
    """How one kernel cuts N points and M latents.

    A tile of `block_points` points is worked on in `group` parts. `masked` tells whether the caller gave a mask.
    """

    points: int
    latents: int
    block_points: int
    block_latents: int
    tiles_per_split: int
    masked: bool
    group: int = 1

    @classmethod
    def create(cls, blocks: Blocks, points: int, latents: int, heads: int, masked: bool, all_latents: bool) -> "Tiling":
        """Split the points so that about `blocks.programs` programs run for all `heads`, of all samples and copies."""
        block_points = min(blocks.points, padded_width(points)) * blocks.group
        block_latents = min(blocks.latents, padded_width(latents))
        programs_per_split = heads * (1 if all_latents else pl.cdiv(latents, block_latents))
        tiles = pl.cdiv(points, block_points)
        splits = min(tiles, max(1, blocks.programs // programs_per_split))
        return cls(points, latents, block_points, block_latents, pl.cdiv(tiles, splits), masked, blocks.group)

    @property
    def splits(self) -> int:
        return pl.cdiv(self.points, self.split_points)

    @property
    def split_points(self) -> int:
        return self.tiles_per_split * self.block_points

    @property
    def latent_tiles(self) -> int:
        return pl.cdiv(self.latents, self.block_latents)

    @property
    def ragged_latents(self) -> bool:
        return self.latents % self.block_latents != 0

    def fold_tiles(
        self,
        split: jax.Array,
        body: Callable[[Any, Any, bool], Any],
        carry: Any,
        first: Callable[[Any, Any, bool], Any] | None = None,
    ) -> Any:
        """Fold `carry = body(tile, carry, checked)` over a split; unchecked tiles hold only real points.

        With `first` that is the body of the first tile of splits whose tiles are not all checked.
        """
        last = self.splits - 1
        if self.masked:
            tiles = pl.cdiv(self.points, self.block_points) - last * self.tiles_per_split
            return _fold(0, self._in_split(split, tiles), lambda i, c: body(i, c, True), carry)
        whole = self._in_split(split, self.points // self.block_points - last * self.tiles_per_split)
        begun = 0
        if first is not None:
            # The only tile of the last split may be ragged.
            begun = min(whole, 1) if isinstance(whole, int) else jnp.minimum(whole, 1)
            carry = _fold(0, begun, lambda i, c: first(i, c, False), carry)
        carry = _fold(begun, whole, lambda i, c: body(i, c, False), carry)
        if self.points % self.block_points == 0:
            return carry
        # The ragged tile is a second loop of at most one turn, so that the checks cost the whole tiles nothing.
        stop = whole + 1 if self.splits == 1 else whole + (split == last).astype(jnp.int32)
        return _fold(whole, stop, lambda i, c: body(i, c, True), carry)

    def _in_split(self, split: jax.Array, tiles_of_last: int) -> jax.Array | int:
        if self.splits == 1 or tiles_of_last == self.tiles_per_split:
            return tiles_of_last
        is_last = (split == self.splits - 1).astype(jnp.int32)
        return self.tiles_per_split - is_last * (self.tiles_per_split - tiles_of_last)

    @property
    def group_points(self) -> int:
        return self.block_points // self.group

    def valid_points(self, start: jax.Array, split: jax.Array, mask_ref: Any = None) -> jax.Array:
        """Return which of the points from `start` on exist and are not masked, `[group_points]` bool."""
        rows = start + jnp.arange(self.group_points, dtype=jnp.int32)
        valid = rows < self.points - split * self.split_points
        if mask_ref is not None:
            valid = valid & plt.load(mask_ref.at[pl.ds(start, self.group_points)], mask=valid, other=False)
        return valid

    def valid_latents(self, tile: jax.Array | int) -> jax.Array | None:
        """Return which of the tile's latents exist, `[block_latents]` bool, or None if all do."""
        if not self.ragged_latents:
            return None
        rows = tile * self.block_latents + jnp.arange(self.block_latents, dtype=jnp.int32)
        return rows < self.latents

    def fold_latents(self, body: Callable[[Any, Any, jax.Array | None], Any], carry: Any) -> Any:
        """Fold `carry = body(tile, carry, valid)` over the tiles of latents; `valid` is None where all exist.

        A ragged number of latents is rare: checking all of its tiles costs less than a second copy of the body would.
        """
        return _fold(0, self.latent_tiles, lambda j, c: body(j, c, self.valid_latents(j)), carry)


def _fold(start: Any, stop: Any, body: Callable[[Any, Any], Any], carry: Any) -> Any:
    if isinstance(start, int) and isinstance(stop, int) and stop - start <= 1:
        return body(jnp.int32(start), carry) if stop > start else carry
    return jax.lax.fori_loop(start, stop, body, carry)


@dataclass(frozen=True)
class Layout:
    """Block specifications for programs that own one tile of latents, or `all_latents` of a head.

    `coarse` is that of the `products`.
    """

    blocks: Blocks
    tiling: Tiling
    batch: int
    heads: int
    all_latents: bool
    target: Target
    coarse: bool = False
    split: bool = False

    @classmethod
    def create(
        cls,
        blocks: Blocks,
        q: jax.Array,
        k: jax.Array,
        mask: jax.Array | None,
        target: Target,
        *,
        all_latents: bool,
        coarse: bool = False,
    ) -> "Layout":
        """Choose tiles and splits for latents q and points k."""
        batch, points, heads, _ = k.shape
        if blocks.polynomial_every and is_split(k.dtype):
            raise ValueError(
                f"a launch with polynomial_every={blocks.polynomial_every} has keys of {k.dtype}; give it 0, for these "
                "polynomials have the accuracy of bfloat16"
            )
        rows = batch * heads * target.copies
        tiling = Tiling.create(blocks, points, q.shape[-2], rows, mask is not None, all_latents)
        return cls(blocks, tiling, batch, heads, all_latents, target, coarse, is_split(k.dtype))

    @property
    def products(self) -> Products:
        """Products of tiles on the target."""
        many = self.tiling.latents >= self.blocks.polynomial_latents
        every = self.blocks.polynomial_every if many else 0
        joined = self.blocks.joined and self.split
        return Products(self.target.compiled, self.target.platform == "cuda", self.coarse, every, joined)

    def launch_by_bound(
        self, kernel: Callable[..., None], name: str, inputs: Any, outputs: Any, bound: jax.Array | None
    ) -> Any:
        """Run `kernel((bound, inputs), outputs, bounded=...)`; with a bound in two launches that share the heads.

        Each launch returns at once for the heads of the other: a kernel with both ways needs the registers of both.
        """
        if bound is None:
            return self.launch(functools.partial(kernel, bounded=None), name, (None, inputs), outputs)
        inputs = self.head_numbers(bound), inputs
        results = self.launch(functools.partial(kernel, bounded=True), name, inputs, outputs)
        return self.launch(functools.partial(kernel, bounded=False), name, inputs, outputs, results)

    def launch_held(
        self,
        kernel: Callable[..., None],
        name: str,
        inputs: Any,
        outputs: Any,
        bound: jax.Array | None,
        close: Callable[[Any], jax.Array],
    ) -> Any:
        """Run `kernel((bound, inputs), outputs, bounded=...)`, and again for heads whose results are not `close`."""
        given = None if bound is None else self.head_numbers(bound)
        results = self.launch(functools.partial(kernel, bounded=True), name, (given, inputs), outputs)
        again = self.head_numbers(jnp.where(close(results), 0.0, jnp.inf))
        return self.launch(functools.partial(kernel, bounded=False), name, (again, inputs), outputs, results)

    def launch(
        self, kernel: Callable[[Any, Any], None], name: str, inputs: Any, outputs: Any, earlier: Any = None
    ) -> Any:
        """Run `kernel` on trees of operands and outputs; see `pallas_call`."""
        return pallas_call(
            functools.partial(kernel, layout=self),
            target=self.target,
            name=name,
            grid=self.grid,
            inputs=inputs,
            outputs=outputs,
            warps=self.blocks.warps,
            stages=self.blocks.stages,
            earlier=earlier,
        )

    @property
    def grid(self) -> tuple[int, int, int]:
        tiles = 1 if self.all_latents else self.tiling.latent_tiles
        return (self.heads * tiles, self.tiling.splits, self.batch)

    @property
    def _latent_rows(self) -> int:
        return self.tiling.block_latents * (self.tiling.latent_tiles if self.all_latents else 1)

    def _head(self, index: Any) -> Any:
        return index if self.all_latents else jax.lax.rem(index, jnp.int32(self.heads))

    def latent_tile(self, index: Any) -> Any:
        """Return the tile of latents of program `index` along the first grid axis."""
        return 0 if self.all_latents else jax.lax.div(index, jnp.int32(self.heads))

    def _rows(self, width: int) -> pl.BlockSpec:
        """Return the specification of `[B, N, H, width]`: the rows of one head in one split."""
        block = (None, self.tiling.split_points, None, padded_width(width))
        return pl.BlockSpec(block, lambda i, s, b: (b, s, self._head(i), 0))

    def points(self, x: jax.Array | None) -> Operand | None:
        """Return the operand `[B, N, H, width]`."""
        return None if x is None else Operand(x, self._rows(x.shape[-1]))

    def points_output(self, width: int, dtype: Any) -> Output:
        """Return the output `[B, N, H, width]`."""
        return Output((self.batch, self.tiling.points, self.heads, width), dtype, self._rows(width))

    def _numbers_of_points(self) -> pl.BlockSpec:
        return pl.BlockSpec((None, None, self.tiling.split_points), lambda i, s, b: (b, self._head(i), s))

    def point_statistics(self, x: jax.Array) -> Operand:
        """Return the operand `[B, H, N]`."""
        return Operand(x, self._numbers_of_points())

    def point_statistics_output(self) -> Output:
        """Return the float32 output `[B, H, N]`."""
        return Output((self.batch, self.heads, self.tiling.points), jnp.float32, self._numbers_of_points())

    def mask(self, x: jax.Array | None) -> Operand | None:
        """Return the operand `[B, N]`."""
        spec = pl.BlockSpec((None, self.tiling.split_points), lambda i, s, b: (b, s))
        return None if x is None else Operand(x, spec)

    def latents(self, x: jax.Array | None) -> Operand | None:
        """Return the operand of parts `[parts, H, M, width]` or `[parts, B, H, M, width]`."""
        if x is None:
            return None
        rows, width = self._latent_rows, padded_width(x.shape[-1])
        if x.ndim == 4:
            block = (x.shape[0], None, rows, width)
            return Operand(x, pl.BlockSpec(block, lambda i, s, b: (0, self._head(i), self.latent_tile(i), 0)))
        block = (x.shape[0], None, None, rows, width)
        return Operand(x, pl.BlockSpec(block, lambda i, s, b: (0, b, self._head(i), self.latent_tile(i), 0)))

    def latent_statistics(self, x: jax.Array) -> Operand:
        """Return the operand `[B, H, M]`."""
        block = (None, None, self._latent_rows)
        return Operand(x, pl.BlockSpec(block, lambda i, s, b: (b, self._head(i), self.latent_tile(i))))

    def split_latents(self, x: jax.Array) -> Operand:
        """Return the operand of all splits' partial results, `[B, H, splits, M, width]` or `[B, H, splits, M]`."""
        block = (None, None, x.shape[2], self._latent_rows, *map(padded_width, x.shape[4:]))
        columns = (0,) * (x.ndim - 4)
        return Operand(x, pl.BlockSpec(block, lambda i, s, b: (b, self._head(i), 0, self.latent_tile(i), *columns)))

    def split_columns(self, x: jax.Array) -> Operand:
        """Return the operand of all splits' partial results as columns, `[B, H, splits, width, M]`."""
        block = (None, None, x.shape[2], padded_width(x.shape[3]), self._latent_rows)
        return Operand(x, pl.BlockSpec(block, lambda i, s, b: (b, self._head(i), 0, 0, self.latent_tile(i))))

    def merged_latents(self, *width: int) -> Output:
        """Return the float32 output `[B, H, M, width]` or `[B, H, M]`, of which all splits see the same rows."""
        block = (None, None, self._latent_rows, *map(padded_width, width))
        columns = (0,) * len(width)
        spec = pl.BlockSpec(block, lambda i, s, b: (b, self._head(i), self.latent_tile(i), *columns))
        return Output((self.batch, self.heads, self.tiling.latents, *width), jnp.float32, spec)

    def head_number_output(self) -> Output:
        """Return the float32 output `[B, H, 1]`, of which all splits see the same number."""
        spec = pl.BlockSpec((None, None, 1), lambda i, s, b: (b, self._head(i), 0))
        return Output((self.batch, self.heads, 1), jnp.float32, spec)

    def head_numbers(self, x: jax.Array) -> Operand:
        """Return the operand `[B, H, count]`."""
        x = jnp.broadcast_to(x, (self.batch, *x.shape[1:]))
        return Operand(x, pl.BlockSpec((None, None, x.shape[-1]), lambda i, s, b: (b, self._head(i), 0)))

    def partial_latents(self, width: int) -> Output:
        """Return the output of float32 partial results `[B, H, splits, M, width]`."""
        block = (None, None, None, self._latent_rows, padded_width(width))
        spec = pl.BlockSpec(block, lambda i, s, b: (b, self._head(i), s, self.latent_tile(i), 0))
        return Output(self._partial_shape(width), jnp.float32, spec)

    def partial_columns(self, width: int) -> Output:
        """Return the output of float32 partial results of transposed latents, `[B, H, splits, width, M]`."""
        block = (None, None, None, padded_width(width), self._latent_rows)
        spec = pl.BlockSpec(block, lambda i, s, b: (b, self._head(i), s, 0, self.latent_tile(i)))
        shape = (self.batch, self.heads, self.tiling.splits, width, self.tiling.latents)
        return Output(shape, jnp.float32, spec)

    def partial_statistics(self) -> Output:
        """Return the output of float32 partial statistics `[B, H, splits, M]`."""
        block = (None, None, None, self._latent_rows)
        spec = pl.BlockSpec(block, lambda i, s, b: (b, self._head(i), s, self.latent_tile(i)))
        return Output(self._partial_shape(), jnp.float32, spec)

    def _partial_shape(self, *width: int) -> tuple[int, ...]:
        return (self.batch, self.heads, self.tiling.splits, self.tiling.latents, *width)
