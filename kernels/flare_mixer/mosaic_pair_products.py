"""What tiles of latents and points add to each other's gradients in the Mosaic GPU kernel of all gradients."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from kernels._mosaic import plgpu
from kernels._tiles import LOG2_E
from kernels.flare_mixer.mosaic_launch import SIDE, across_columns, across_rows, multiply, zeros


class Sums(NamedTuple):
    """Sums of the gradients of keys and values of the warpgroup's own tile of points, and of the other's."""

    keys: jax.Array
    values: jax.Array
    other_keys: jax.Array
    other_values: jax.Array


class Rows(NamedTuple):
    """A tile of points in shared memory, with its numbers."""

    keys: Any
    values: Any
    gradients: Any
    maximum: jax.Array
    mean: jax.Array


class Columns(NamedTuple):
    """A tile of latents in shared memory, with its numbers; `hidden` is None where all exist."""

    queries: Any
    gradients: Any
    latents: Any
    mean: jax.Array
    maximum: Any
    hidden: jax.Array | None


@dataclass(frozen=True)
class Pair:
    """The products of tiles of keys and values `width` wide; logits are multiplied by `scale`."""

    scale: float
    width: int

    def near(
        self, rows: list[Rows], columns: Columns, slopes: list[Any], weights: list[Any], sums: Sums
    ) -> tuple[Sums, jax.Array]:
        """Return the sums with those of a tile of latents, and its queries' gradients, by one exponential."""

        def products(logits: Sequence[Any], means: Sequence[Any], totals: Sequence[Any], queries: Any) -> Any:
            for tile, logit, mean in zip(rows, logits, means, strict=True):
                plgpu.wgmma(logit, tile.keys, columns.queries.transpose((1, 0)))
                plgpu.wgmma(mean, tile.values, columns.gradients.transpose((1, 0)))
                plgpu.wgmma(mean, tile.gradients, columns.latents.transpose((1, 0)))
            for i, tile in enumerate(rows):
                # Five products follow either tile's logits, and three its slopes.
                weight = self._weights(plgpu.wgmma_accumulator_load(logits[i], wait_n=5), tile, columns)
                mean = plgpu.wgmma_accumulator_load(means[i], wait_n=3)
                mean = mean - across_rows(tile.mean, mean.shape) - across_columns(columns.mean, mean.shape)
                slope = weight * mean
                left = self._left(weight, slope, slopes[i], weights, finished=i == 1)
                plgpu.wgmma(totals[2 * i + 1], left[0], columns.gradients)
                plgpu.wgmma(totals[2 * i], left[1], columns.queries)
                plgpu.wgmma(queries, slopes[i].transpose((1, 0)), tile.keys)
            plgpu.wgmma_wait(0)
            found = [plgpu.wgmma_accumulator_load(x, wait_n=None) for x in (*totals, queries)]
            return tuple(lax.optimization_barrier(tuple(found)))

        pair, total = (plgpu.ACC((SIDE, columns), jnp.float32) for columns in (SIDE, self.width))
        *found, queries = pl.run_scoped(
            products,
            [pair] * 2,
            [pair] * 2,
            [total] * 4,
            total,
        )
        return Sums(*(a + b for a, b in zip(sums, found, strict=True))), queries

    def _weights(self, logits: jax.Array, tile: Rows, columns: Columns) -> jax.Array:
        """Return the scatter's weights without their masses, or those of both softmaxes."""
        logits = logits * (self.scale * LOG2_E) - across_rows(tile.maximum, logits.shape)
        if columns.hidden is not None:
            logits = logits + across_columns(columns.hidden, logits.shape)
        return jnp.exp2(logits)

    def _left(self, weight: jax.Array, slope: jax.Array, kept: Any, places: list[Any], finished: bool) -> list[Any]:
        """Return weights and slopes as left factors of products; `kept` has the slopes in shared memory as well.

        All warps have finished the products with the other tile's slopes where `finished` says so.
        """
        weight, slope = weight.astype(jnp.bfloat16), slope.astype(jnp.bfloat16)
        kept[...] = slope
        if finished:
            plgpu.wgmma_wait(0)
        plgpu.commit_smem()
        if not places:
            return [weight, slope]
        places[0][...] = weight
        return [places[0], kept]

    def far(
        self, rows: list[Rows], columns: Columns, slopes: list[Any], weights: list[Any], sums: Sums
    ) -> tuple[Sums, jax.Array]:
        """Return what `near` does, by two exponentials."""
        maximum, shape = column_numbers(columns.maximum), (SIDE, SIDE)
        totals, queries = [], zeros(SIDE, self.width)
        for i, tile in enumerate(rows):
            logits = multiply([tile.keys], [columns.queries.transpose((1, 0))], shape)
            scatter = self._weights(logits, tile, columns)
            hidden = jnp.where(tile.maximum < jnp.inf, 0.0, -jnp.inf)
            logits = logits * (self.scale * LOG2_E) - across_columns(maximum, shape) + across_rows(hidden, shape)
            if columns.hidden is not None:
                logits = logits + across_columns(columns.hidden, shape)
            gather = jnp.exp2(logits)
            mean = multiply([tile.gradients], [columns.latents.transpose((1, 0))], shape)
            slope = scatter * (mean - across_rows(tile.mean, shape))
            mean = multiply([tile.values], [columns.gradients.transpose((1, 0))], shape)
            slope = slope + gather * (mean - across_columns(columns.mean, shape))
            left = self._left(gather, slope, slopes[i], weights, finished=True)
            totals.append(multiply(left[1:], [columns.queries], (SIDE, self.width)))
            totals.append(multiply(left[:1], [columns.gradients], (SIDE, self.width)))
            queries = queries + multiply([slopes[i].transpose((1, 0))], [tile.keys], queries.shape)
        return Sums(*(a + b for a, b in zip(sums, totals, strict=True))), queries


def column_numbers(ref: Any) -> jax.Array:
    """Load a number of each latent of a tile."""
    return plgpu.load(ref, layout=plgpu.Layout.WGMMA.reduce(0))
