"""How a program walks over its part of the sequence, and which blocks of the arrays it sees."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels._tiles import padded_width


@dataclass(frozen=True)
class Walk:
    """The tiles of the points of one split."""

    points: int
    split_points: int
    block: int

    @property
    def splits(self) -> int:
        return pl.cdiv(self.points, self.split_points)

    def tiles(self, split: jax.Array) -> jax.Array | int:
        """Return how many tiles the split has; the last one may be shorter."""
        tiles, per_split = pl.cdiv(self.points, self.block), self.split_points // self.block
        return per_split if tiles % per_split == 0 else jnp.minimum(per_split, tiles - split * per_split)

    def valid(self, start: jax.Array, split: jax.Array) -> jax.Array | None:
        """Return which points of the tile exist, or None where every tile is full."""
        if self.points % self.block == 0:
            return None
        return start + jnp.arange(self.block, dtype=jnp.int32) < self.points - split * self.split_points


def existing(rows: int) -> jax.Array | None:
    """Return which rows of a padded state exist, or None where there is no padding."""
    padded = padded_width(rows)
    return None if padded == rows else jnp.arange(padded, dtype=jnp.int32) < rows


def point_rows(walk: Walk, width: int, tiles: int = 1, tiled: bool = False) -> pl.BlockSpec:
    """Return the specification of `[B, N, H, width]`: the rows of one head in one split, one tile of columns of it."""

    def index(i: Any, split: Any, sample: Any) -> tuple[Any, ...]:
        head, tile = _head_and_tile(i, tiles)
        return sample, split, head, tile if tiled else 0

    return pl.BlockSpec((None, walk.split_points, None, width), index)


def split_states(width: int, columns: int, tiles: int = 1) -> pl.BlockSpec:
    """Return the specification of `[B, H, splits, D, C]`: the state of one split, one tile of columns of it."""

    def index(i: Any, split: Any, sample: Any) -> tuple[Any, ...]:
        head, tile = _head_and_tile(i, tiles)
        return sample, head, split, 0, tile

    return pl.BlockSpec((None, None, None, width, columns), index)


def _head_and_tile(index: Any, tiles: int) -> tuple[Any, Any]:
    """Return head and tile of columns; tiles vary fastest, because programs of one head share its queries and keys."""
    if tiles == 1:
        return index, 0
    return jax.lax.div(index, jnp.int32(tiles)), jax.lax.rem(index, jnp.int32(tiles))
