"""The arrays of the Mosaic GPU kernel of all gradients, and how they are cut and padded."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels._target import Target
from kernels._tiles import padded_width
from kernels.flare_mixer.mosaic_launch import TILE, PairTiles

# Rows of what lies together in shared memory, of which arrays must have a multiple.
_ROWS_OF_COPIES = 8


class Points(NamedTuple):
    """Of the points, `[B, N, H, C]` in bfloat16: keys, values and dy / mass; float32 `[B, H, N]`: what logits are less.

    `maximum` is that of the point's softmax, or of the head's where there is one exponential, of whose sum `mass` is
    then the mass; of a masked point it is infinite. `mean` is that of the slopes.
    """

    keys: jax.Array
    values: jax.Array
    gradients: jax.Array
    maximum: jax.Array
    mean: jax.Array


class Latents(NamedTuple):
    """Of the latents, `[B, H, M, C]` in bfloat16: queries, dz / mass and z; float32 `[B, H, M]`: mean slopes, maxima.

    With one exponential the latents' factors are in dz / mass and the mean slopes.
    """

    queries: jax.Array
    gradients: jax.Array
    latents: jax.Array
    mean: jax.Array
    maximum: jax.Array


class Gradients(NamedTuple):
    """Gradients of keys and values `[B, N, H, C]`, and of the queries `[B, H, splits, M, D]` in float32."""

    keys: jax.Array
    values: jax.Array
    queries: jax.Array


@dataclass(frozen=True)
class Shape:
    """Padded sizes; each split has at most `tiles` tiles of the points. Keys and values have one width."""

    heads: int
    points: int
    latents: int
    width: int
    splits: int
    tiles: int

    @classmethod
    def create(cls, points: Points, latents: Latents, blocks: PairTiles, target: Target) -> "Shape":
        """Split the points so that about `blocks.programs` programs run for all heads and samples."""
        batch, count, heads, width = points.keys.shape
        tiles = pl.cdiv(count, TILE)
        splits = min(tiles, max(1, blocks.programs // (batch * heads * target.copies)))
        per_split = pl.cdiv(tiles, splits)
        padded = pl.cdiv(latents.queries.shape[2], TILE) * TILE
        width = padded_width(max(width, points.values.shape[-1]))
        return cls(heads, tiles * TILE, padded, width, pl.cdiv(tiles, per_split), per_split)

    @property
    def steps(self) -> int:
        """Tiles of latents of one warpgroup."""
        return self.latents // TILE

    def pad_points(self, points: Points, target: Target) -> Points:
        """Pad widths, and lengths where copies do not fill what lies beyond an array with zeros."""
        length = points.keys.shape[1]
        # Copies fill what lies beyond an array with zeros, in whole tiles of memory; the interpreter's do not.
        extra = -length % _ROWS_OF_COPIES if target.compiled else self.points - length
        rows = [_pad(x, (0, extra), (0, 0), (0, self.width - x.shape[-1])) for x in points[:3]]
        after = (0, 0), (0, self.points - length)
        return Points(*rows, _pad(points.maximum, *after, value=jnp.inf), _pad(points.mean, *after))

    def pad_latents(self, latents: Latents) -> list[jax.Array]:
        """Pad widths and the number of latents, and append what hides those where there are any."""
        existing = latents.queries.shape[2]
        extra = (0, self.latents - existing)
        rows = [_pad(x, (0, 0), extra, (0, self.width - x.shape[-1])) for x in latents[:3]]
        numbers = [_pad(x, (0, 0), extra) for x in latents[3:]]
        if extra[1]:
            hidden = jnp.where(jnp.arange(self.latents) < existing, 0.0, -jnp.inf)
            numbers.append(jnp.broadcast_to(hidden, numbers[0].shape))
        return [*rows, *numbers]


def _pad(x: jax.Array, *extra: tuple[int, int], value: float = 0.0) -> jax.Array:
    """Append a value along all axes but the first."""
    return jnp.pad(x, ((0, 0), *extra), constant_values=value) if any(after for _, after in extra) else x
