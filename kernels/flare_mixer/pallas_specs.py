"""Grids and block specifications of the mixer's kernels: which part of each array a program sees.

The grid is (heads x tiles of latents, splits of the points, batch) with heads varying fastest, so that programs which
run at the same time read neighbouring heads of the same points: at small head widths these share memory sectors.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels.flare_mixer.dispatch import Blocks
from kernels.flare_mixer.operands import Operands
from kernels.flare_mixer.pallas_tiles import Tiling, padded_width


@dataclass(frozen=True)
class Layout:
    """Block specifications for programs that own one tile of latents, or `all_latents` of a head."""

    tiling: Tiling
    batch: int
    heads: int
    all_latents: bool

    @classmethod
    def create(cls, blocks: Blocks, operands: Operands, all_latents: bool) -> "Layout":
        """Choose tiles and splits for `operands`."""
        batch, points, heads, _ = operands.k.shape
        latents, masked = operands.q.shape[-2], operands.mask is not None
        return cls(
            Tiling.create(blocks, points, latents, batch * heads, masked, all_latents), batch, heads, all_latents
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

    def points(self, width: int) -> pl.BlockSpec:
        """Return the specification of `[B, N, H, width]`: the rows of one head in one split."""
        block = (None, self.tiling.split_points, None, padded_width(width))
        return pl.BlockSpec(block, lambda i, s, b: (b, s, self._head(i), 0))

    def point_statistics(self) -> pl.BlockSpec:
        """Return the specification of `[B, H, N]`."""
        return pl.BlockSpec((None, None, self.tiling.split_points), lambda i, s, b: (b, self._head(i), s))

    def mask(self) -> pl.BlockSpec:
        """Return the specification of `[B, N]`."""
        return pl.BlockSpec((None, self.tiling.split_points), lambda i, s, b: (b, s))

    def latents(self, x: jax.Array) -> pl.BlockSpec:
        """Return the specification of the parts `[parts, H, M, width]` or `[parts, B, H, M, width]`."""
        rows, width = self._latent_rows, padded_width(x.shape[-1])
        if x.ndim == 4:
            return pl.BlockSpec(
                (x.shape[0], None, rows, width), lambda i, s, b: (0, self._head(i), self.latent_tile(i), 0)
            )
        return pl.BlockSpec(
            (x.shape[0], None, None, rows, width), lambda i, s, b: (0, b, self._head(i), self.latent_tile(i), 0)
        )

    def latent_statistics(self) -> pl.BlockSpec:
        """Return the specification of `[B, H, M]`."""
        return pl.BlockSpec((None, None, self._latent_rows), lambda i, s, b: (b, self._head(i), self.latent_tile(i)))

    def head_numbers(self, count: int) -> pl.BlockSpec:
        """Return the specification of `[B, H, count]`."""
        return pl.BlockSpec((None, None, count), lambda i, s, b: (b, self._head(i), 0))

    def partial_latents(self, width: int) -> tuple[pl.BlockSpec, jax.ShapeDtypeStruct]:
        """Return specification and shape of float32 partial results `[B, H, splits, M, width]`."""
        spec = pl.BlockSpec(
            (None, None, None, self._latent_rows, padded_width(width)),
            lambda i, s, b: (b, self._head(i), s, self.latent_tile(i), 0),
        )
        return spec, self._partial_shape(width)

    def partial_statistics(self) -> tuple[pl.BlockSpec, jax.ShapeDtypeStruct]:
        """Return specification and shape of float32 partial statistics `[B, H, splits, M]`."""
        spec = pl.BlockSpec(
            (None, None, None, self._latent_rows), lambda i, s, b: (b, self._head(i), s, self.latent_tile(i))
        )
        return spec, self._partial_shape()

    def _partial_shape(self, *width: int) -> jax.ShapeDtypeStruct:
        shape = (self.batch, self.heads, self.tiling.splits, self.tiling.latents, *width)
        return jax.ShapeDtypeStruct(shape, jnp.float32)


def numbers_operand(
    numbers: tuple[float, ...] | jax.Array, layout: Layout
) -> tuple[tuple[float, ...] | None, list[jax.Array], list[pl.BlockSpec]]:
    """Return `head_numbers` as constants of a kernel or, with None for those, as an operand with its specification."""
    if isinstance(numbers, tuple):
        return numbers, [], []
    numbers = jnp.broadcast_to(numbers, (layout.batch, *numbers.shape[1:]))
    return None, [numbers], [layout.head_numbers(numbers.shape[-1])]


def mask_operand(mask: jax.Array | None, layout: Layout) -> tuple[list[jax.Array], list[pl.BlockSpec]]:
    """Return the mask as a kernel operand with its specification; empty lists without a mask."""
    return ([], []) if mask is None else ([mask], [layout.mask()])
