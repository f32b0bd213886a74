"""How the kernels cut the points and the state into tiles, and the layouts of the state that they read and write.

Tensor cores multiply tiles whose sides are powers of two of at least 16. Points are read with masks, so only the small
state is padded in memory. The index l of the state is cut into chunks of `slices`: a kernel holds that many slices
`[D, C]` of the state at once, side by side in one matrix.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from kernels._tiles import next_power_of_2, padded_width
from kernels.triple_attention.table import Blocks

# Points are split only while all partial states fit into 256 MiB.
LARGEST_PARTIAL_ELEMENTS = 2**26


@dataclass(frozen=True)
class Tiling:
    """Sizes of one launch; every program sees one head and tiles of `rows` points."""

    batch: int
    points: int
    heads: int
    width: int
    channels: int
    rows: int
    slices: int
    splits: int
    tiles_per_split: int

    @classmethod
    def create(cls, blocks: Blocks, shape: tuple[int, ...], channels: int) -> "Tiling":
        """Cut operands of `shape` `[B, N, H, D]`; the points are split so that about `blocks.programs` programs run."""
        batch, points, heads, width = shape
        rows, slices = min(blocks.rows, padded_width(points)), min(blocks.slices, next_power_of_2(width))
        tiles, chunks = -(-points // rows), -(-width // slices)
        state = batch * heads * chunks * slices * padded_width(width) * padded_width(channels)
        wanted = min(blocks.programs // (batch * heads * chunks), LARGEST_PARTIAL_ELEMENTS // state)
        tiles_per_split = -(-tiles // max(1, min(tiles, wanted)))
        splits = -(-tiles // tiles_per_split)
        return cls(batch, points, heads, width, channels, rows, slices, splits, tiles_per_split)

    @property
    def tiles(self) -> int:
        return -(-self.points // self.rows)

    @property
    def chunks(self) -> int:
        return -(-self.width // self.slices)

    @property
    def padded_slices(self) -> int:
        return self.chunks * self.slices

    @property
    def padded_width(self) -> int:
        return padded_width(self.width)

    @property
    def padded_channels(self) -> int:
        return padded_width(self.channels)

    @property
    def partial_shape(self) -> jax.ShapeDtypeStruct:
        """Shape of the partial states of all splits, with rows (l, i) and columns j."""
        sides = (self.padded_slices * self.padded_width, self.padded_channels)
        return jax.ShapeDtypeStruct((self.batch, self.heads, self.splits, *sides), jnp.float32)

    def merge(self, partial: jax.Array) -> jax.Array:
        """Return the state `[B, H, i, j, l]` from the partial states, summed in a fixed order."""
        sides = (self.padded_slices, self.padded_width, self.padded_channels)
        total = jnp.sum(partial, axis=2).reshape(self.batch, self.heads, *sides)
        return jnp.transpose(total[:, :, : self.width, : self.width, : self.channels], (0, 1, 3, 4, 2))

    def rows_of_width(self, state: jax.Array, dtype: jnp.dtype) -> jax.Array:
        """Return the state as the padded matrix `[B, H, i, (l, j)]` that a tile of a multiplies."""
        return self._matrix(
            state, dtype, (0, 1, 2, 4, 3), (self.padded_width, self.padded_slices, self.padded_channels)
        )

    def rows_of_channels(self, state: jax.Array, dtype: jnp.dtype) -> jax.Array:
        """Return the state as the padded matrix `[B, H, j, (l, i)]` that a tile of x multiplies."""
        return self._matrix(
            state, dtype, (0, 1, 3, 4, 2), (self.padded_channels, self.padded_slices, self.padded_width)
        )

    def _matrix(
        self, state: jax.Array, dtype: jnp.dtype, order: tuple[int, ...], sides: tuple[int, int, int]
    ) -> jax.Array:
        ordered = jnp.transpose(state.astype(dtype), order)
        padding = [(0, 0), (0, 0), *((0, side - n) for side, n in zip(sides, ordered.shape[2:], strict=True))]
        return jnp.pad(ordered, padding).reshape(self.batch, self.heads, sides[0], sides[1] * sides[2])
