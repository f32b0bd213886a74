"""What the Pallas kernels of the mixer share: how work is cut into tiles, and masked loads, stores and products.

Only `[rows, width]` tiles with power-of-two sides and a width of at least 16 can be multiplied on the tensor cores, so
every width is padded to such a size in registers: the padded columns are never read from memory, they are zeros.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from kernels._pallas import interpreted
from kernels.flare_mixer.dispatch import Blocks
from kernels.flare_mixer.pallas_products import Parts, split_tile

LOG2_E = math.log2(math.e)
# Where a running maximum starts: finite, so that a difference of two starts is 0 and not NaN.
LOWEST = -1e30
SMALLEST_SIDE = 16


def padded_width(width: int) -> int:
    """Return the power of two, at least 16, that a tile of `width` columns is padded to."""
    return max(SMALLEST_SIDE, pl.next_power_of_2(width))


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
        """Split the points so that about `blocks.programs` programs run for all `heads`, those of all samples."""
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

    def fold_tiles(self, split: jax.Array, body: Callable[[Any, Any, bool], Any], carry: Any) -> Any:
        """Fold `carry = body(tile, carry, checked)` over a split; unchecked tiles hold only real points."""
        last = self.splits - 1
        if self.masked:
            tiles = pl.cdiv(self.points, self.block_points) - last * self.tiles_per_split
            return _fold(0, self._in_split(split, tiles), lambda i, c: body(i, c, True), carry)
        whole = self._in_split(split, self.points // self.block_points - last * self.tiles_per_split)
        carry = _fold(0, whole, lambda i, c: body(i, c, False), carry)
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


def _tile_mask(shape: tuple[int, int], width: int, valid: jax.Array | None) -> jax.Array | None:
    mask = None if valid is None else jnp.broadcast_to(valid[:, None], shape)
    if width != shape[1]:
        columns = jnp.broadcast_to((jnp.arange(shape[1], dtype=jnp.int32) < width)[None, :], shape)
        mask = columns if mask is None else mask & columns
    return mask


def load_rows(
    ref: Any, start: Any, rows: int, width: int, valid: jax.Array | None, part: tuple[jax.Array, ...] = ()
) -> jax.Array:
    """Load a `[rows, padded width]` tile; columns beyond `width` and rows that are not valid are zeros."""
    mask = _tile_mask((rows, padded_width(width)), width, valid)
    view = ref.at[(*part, pl.ds(start, rows), slice(None))]
    return plt.load(view) if mask is None else plt.load(view, mask=mask, other=0.0)


def load_parts(ref: Any, start: Any, rows: int, width: int, valid: jax.Array | None) -> Parts:
    """Load the parts of a tile from `[parts, rows, width]`, or split it here if it is stored as one."""
    tiles = tuple(load_rows(ref, start, rows, width, valid, (jnp.int32(part),)) for part in range(ref.shape[0]))
    return split_tile(*tiles) if len(tiles) == 1 else tiles


def store_rows(ref: Any, start: Any, value: jax.Array, width: int, valid: jax.Array | None) -> None:
    """Store the real columns of the valid rows of a `[rows, padded width]` tile."""
    plt.store(
        ref.at[pl.ds(start, value.shape[0]), :],
        value.astype(ref.dtype),
        mask=_tile_mask(value.shape, width, valid),
    )


def load_vector(ref: Any, start: Any, rows: int, valid: jax.Array | None, other: float) -> jax.Array:
    """Load `[rows]` statistics, with `other` where not valid."""
    view = ref.at[pl.ds(start, rows)]
    return plt.load(view) if valid is None else plt.load(view, mask=valid, other=other)


def store_vector(ref: Any, start: Any, value: jax.Array, valid: jax.Array | None) -> None:
    """Store the valid entries of `[rows]` statistics."""
    plt.store(ref.at[pl.ds(start, value.shape[0])], value, mask=valid)


def dot(a: jax.Array, b: jax.Array, contract: tuple[int, int], exact: str) -> jax.Array:
    """Multiply two tiles over axes `contract` with float32 sums; float32 tiles never as plain TF32.

    On the tensor cores a float32 tile is split into two TF32 parts, whose three largest products have float32 accuracy;
    `exact="ieee"` asks for fused multiply-adds on the ordinary cores instead.
    """
    if interpreted():  # a CPU has no products of bfloat16 with float32 sums; in float32 they are exact
        a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    precision = jax.lax.Precision.HIGHEST
    if a.dtype == jnp.float32 and exact == "tf32x3" and not interpreted():
        precision = jax.lax.DotAlgorithmPreset.TF32_TF32_F32_X3
    numbers = (((contract[0],), (contract[1],)), ((), ()))
    return jax.lax.dot_general(a, b, numbers, precision=precision, preferred_element_type=jnp.float32)
