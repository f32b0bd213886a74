"""The walk over all pairs of points and latents that gives the gradients of queries, keys and values, each pair once.

A program owns the points of one split and loops over all latents for every tile of points. The gradients of the keys
and values stay in registers during the loop over latents and are written once. That of the queries is summed in
registers where one tile holds all latents; else each program sums it in its own part of a float32 buffer, so that the
result never depends on the order in which programs run. Several tiles of points (`group`) can share one pass over the
latents, which divides the traffic with this buffer, and its next part is read one step ahead.

The sums of the queries are transposed, for their products have the logits' gradients on the right. As a transposed left
factor XLA would compute these once more: it moves transpositions before what is computed element by element.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kernels._layout import Layout
from kernels._tile_products import Products
from kernels._tiles import load_block, padded_width, store_block, store_rows

Number = jax.Array | float


class Gradients(NamedTuple):
    """References that the walk writes: of the keys, of the values, and every split's part of the queries, `[D, M]`.

    There are one or two pairs of queries and keys. `values` is None where the values are the keys.
    """

    keys: list[Any]
    values: Any
    queries: list[Any]


@dataclass(frozen=True)
class Walk:
    """What the walk calls for one program.

    `load_latents(tile, valid)` and `load_points(start, valid)` return tiles with the parts of their `keys`; latents
    also have the parts `value` of the values' gradient, and points may have a `share`, a factor of that gradient.
    `pair(points, latents)` returns the weights of the values' gradient and the gradients of the one or two logits.
    `widths` and `value_width` are those of keys and values; the results are multiplied by the factors, the queries'
    only where one tile holds all latents.
    """

    layout: Layout
    widths: tuple[int, ...]
    value_width: int
    key_factors: tuple[Number, ...]
    value_factor: Number
    load_latents: Callable[[Any, jax.Array | None], Any]
    load_points: Callable[[jax.Array, jax.Array | None], Any]
    pair: Callable[[Any, Any], tuple[jax.Array, list[jax.Array]]]
    query_factors: tuple[Number, ...] | None = None

    def run(self, split: jax.Array, mask_ref: Any, outputs: Gradients) -> None:
        """Walk over the points of one split."""
        tiling = self.layout.tiling
        resident = tiling.latent_tiles == 1
        only = self.load_latents(0, tiling.valid_latents(0)) if resident else None
        tile = functools.partial(self._tile, split, mask_ref, outputs, only)
        zeros = [jnp.zeros(self._columns(width), jnp.float32) for width in self.widths]
        sums = tiling.fold_tiles(split, tile, zeros if resident else [])
        if self.query_factors is not None:
            sums = [factor * total for factor, total in zip(self.query_factors, sums, strict=True)]
        if resident:
            self._store_sums(outputs, 0, sums)

    def _tile(
        self,
        split: jax.Array,
        mask_ref: Any,
        outputs: Gradients,
        only: Any,
        index: jax.Array,
        queries: list[jax.Array],
        checked: bool,
    ) -> list[jax.Array]:
        """Walk over all latents for one tile of points; return the sums of the queries that are in registers."""
        tiling, products, rows = self.layout.tiling, self.layout.products, self.layout.tiling.group_points
        starts = [index * tiling.block_points + i * rows for i in range(tiling.group)]
        valid = [tiling.valid_points(start, split, mask_ref) if checked else None for start in starts]
        group = [self.load_points(*pair) for pair in zip(starts, valid, strict=True)]
        zeros = functools.partial(_zeros, rows, self.layout.products)
        sums = [(zeros(self.widths), *zeros((self.value_width,))) for _ in group]
        first = index == 0
        carry = sums, queries if only is not None else self._load_sums(outputs, 0, first)
        sums, queries = tiling.fold_latents(functools.partial(self._pair, group, first, only, outputs), carry)
        for start, points, (keys, values) in zip(starts, group, sums, strict=True):
            existing = tiling.valid_points(start, split) if checked else None
            values, keys = products.folded(values), [products.folded(x) for x in keys]
            share = getattr(points, "share", None)
            values = self.value_factor * (values if share is None else share[:, None] * values)
            keys = [factor * key for factor, key in zip(self.key_factors, keys, strict=True)]
            if outputs.values is None:
                keys[0] = keys[0] + values
            else:
                store_rows(outputs.values, start, values, self.value_width, existing)
            for ref, key, width in zip(outputs.keys, keys, self.widths, strict=True):
                store_rows(ref, start, key, width, existing)
        if only is None:
            products.barrier()
            return []
        return queries

    def _pair(
        self,
        group: list[Any],
        first: jax.Array,
        only: Any,
        outputs: Gradients,
        j: Any,
        carry: tuple,
        valid: jax.Array | None,
    ) -> tuple:
        """Add what one tile of latents contributes to a group of tiles of points, and these to it."""
        products, tiling = self.layout.products, self.layout.tiling
        sums, queries = carry
        latents = self.load_latents(j, valid) if only is None else only
        if only is None:
            # Ask for the next sums now: they come from afar.
            following = self._load_sums(outputs, jnp.minimum(j + 1, tiling.latent_tiles - 1), first)
        new_sums = []
        for points, (keys, values) in zip(group, sums, strict=True):
            weights, gradients = self.pair(points, latents)
            gradients = [products.weights(x, latents.value) for x in gradients]
            values = products.multiply(products.weights(weights, latents.value), latents.value, (1, 0), start=values)
            keys = [
                products.multiply(gradient, key, (1, 0), start=total)
                for gradient, key, total in zip(gradients, latents.keys, keys, strict=True)
            ]
            queries = [
                products.multiply(key, gradient, (0, 0), start=total)
                for key, gradient, total in zip(points.keys, gradients, queries, strict=True)
            ]
            new_sums.append((keys, values))
        if only is None:
            self._store_sums(outputs, j, queries)
            queries = following
        return new_sums, queries

    def _load_sums(self, outputs: Gradients, j: Any, first: jax.Array) -> list[jax.Array]:
        """Load this program's own sums of the queries of a tile of latents; its first tile of points starts them."""
        start = 0, j * self.layout.tiling.block_latents
        sums = [
            load_block(ref, start, self._columns(width), self._extent(width, j))
            for ref, width in zip(outputs.queries, self.widths, strict=True)
        ]
        return [jnp.where(first, 0.0, x) for x in sums]

    def _store_sums(self, outputs: Gradients, j: Any, sums: list[jax.Array]) -> None:
        """Store this program's sums of the queries of a tile of latents."""
        start = 0, j * self.layout.tiling.block_latents
        for ref, total, width in zip(outputs.queries, sums, self.widths, strict=True):
            store_block(ref, start, total, self._extent(width, j))

    def _columns(self, width: int) -> tuple[int, int]:
        return padded_width(width), self.layout.tiling.block_latents

    def _extent(self, width: int, j: Any) -> tuple[int, Any]:
        """Return how many rows and columns of a tile of the queries' sums exist."""
        tiling = self.layout.tiling
        left = tiling.latents - j * tiling.block_latents if tiling.ragged_latents else tiling.block_latents
        return width, left


def _zeros(rows: int, products: Products, widths: tuple[int, ...]) -> list[jax.Array]:
    return [jnp.zeros((rows, products.columns(width)), jnp.float32) for width in widths]
