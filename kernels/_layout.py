"""The programs of kernels over pairs of points and latents, and which part of each array a program sees.

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
from kernels._tile_products import Products, is_split
from kernels._tiles import padded_width
from kernels._tiling import Blocks, Tiling


@dataclass(frozen=True)
class Layout:
    """Block specifications for programs that own one tile of latents, or `all_latents` of a head.

    `coarse` is that of the `products`, `split` whether their operands are in parts.
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
        joined = self.blocks.joined and self.split and not self.coarse
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
        """Run `kernel((bound, inputs), outputs, bounded=...)`, and again for heads whose results are not `close`.

        `bound` is the reference that is held, None where the kernel finds it (`kernels/_held.py`).
        """
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
