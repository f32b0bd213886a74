"""How a kernel over pairs of points and latents is launched, and into which tiles it cuts them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels._tiles import padded_width
from kernels._triton_lowering import plt


@dataclass(frozen=True)
class Blocks:
    """How one kernel is launched.

    `points` and `latents` are the sides of a tile; the points are split so that about `programs` programs run in all;
    `warps` and `stages` are Triton's. In the kernel of the operands' gradients `group` tiles of points share a pass
    over the latents, whose gradients travel between memory and registers once per pass, and with `one_exponential` both
    softmaxes share one where the range of the logits allows it, with common logits only. With `bounded` a forward
    kernel takes a bound of the logits for their maximum where one is given and close (`kernels/_bounds.py`). With
    `polynomial_every` one exponential of so many, 2, 4 or 8, of a forward kernel or of the latents' gradient is a
    polynomial (`kernels/_exponentials.py`), in bfloat16 only, for heads of at least `polynomial_latents` latents. With
    `joined` the two parts of float32 lie side by side in one tile, so that a product is two instructions that wait for
    each other in the place of three (`Products`). With `held`, in bfloat16 only, gather and scatter take a number known
    early for the running maximum where they are given no bound (`kernels/_held.py`).
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

        With `first`, where no tile is masked, that is the body of each split's first tile and of the ragged one, which
        may be the first one of its split.
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
        return _fold(whole, stop, lambda i, c: (first or body)(i, c, True), carry)

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
