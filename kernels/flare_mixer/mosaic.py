"""The FLARE mixer through Mosaic GPU, for Hopper, in two kernels for points and for latents (README.md, "Kernels")."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kernels._chunked import hide_masked
from kernels._scales import latent_exponent, point_exponent
from kernels._statistics import Statistics, merge_splits
from kernels._target import Target
from kernels.flare_mixer.mixing import Backend, PointStatistics
from kernels.flare_mixer.mosaic_gradients import all_gradients, over_mass, serves
from kernels.flare_mixer.mosaic_launch import MosaicBlocks
from kernels.flare_mixer.mosaic_reading import ReadExponents, read
from kernels.flare_mixer.mosaic_slopes import Softmax, slopes
from kernels.flare_mixer.operands import Operands
from kernels.gather.pallas import like_latents


@dataclass(frozen=True)
class MosaicBackend(Backend):
    """The mixer as kernels whose launches are `blocks`; no implementation but this one takes part."""

    blocks: MosaicBlocks
    target: Target

    def gather(self, operands: Operands, *, scale: float) -> Statistics:
        q, k, v, mask = operands.q, operands.k, operands.v, operands.mask
        found = read(
            _rows(q, k),
            hide_masked(k, mask),
            hide_masked(v, mask),
            _hidden(mask, k.shape[2]),
            scale,
            exponents=ReadExponents(latent_exponent(q), point_exponent(k, mask), point_exponent(v, mask)),
            normalised=True,
            single=False,
            blocks=self.blocks.read,
            target=self.target,
        )
        values = jnp.transpose(found.values, (0, 3, 1, 2, 4))
        return merge_splits(Statistics(values, *(jnp.swapaxes(x, 1, 2) for x in (found.maximum, found.mass))))

    def exponential(self, x: jax.Array) -> jax.Array:
        return jnp.exp2(x)

    def scatter(self, operands: Operands, statistics: Statistics, *, scale: float) -> tuple[jax.Array, PointStatistics]:
        (q, k), mask, latents = operands.scatter_pair, operands.mask, statistics.latents.astype(operands.v.dtype)
        found = read(
            hide_masked(k, mask),
            _rows(q, k),
            jnp.swapaxes(latents, 1, 2),
            None,
            scale,
            exponents=ReadExponents(point_exponent(k, mask), latent_exponent(q), latent_exponent(latents)),
            normalised=True,
            single=True,
            blocks=self.blocks.read,
            target=self.target,
        )
        return hide_masked(found.values[:, 0], mask), (found.maximum[:, 0], found.mass[:, 0])

    def latent_gradient(
        self, operands: Operands, dy: jax.Array, statistics: PointStatistics, *, scale: float
    ) -> jax.Array:
        (q, k), mask, maximum = operands.scatter_pair, operands.mask, statistics[0]
        share = hide_masked(over_mass(dy, statistics), mask).astype(dy.dtype)
        found = read(
            _rows(q, k),
            hide_masked(k, mask),
            share,
            -maximum if mask is None else jnp.where(mask[:, None], -maximum, -jnp.inf),
            scale,
            exponents=ReadExponents(latent_exponent(q), point_exponent(k, mask), point_exponent(share, None)),
            normalised=False,
            single=False,
            blocks=self.blocks.read,
            target=self.target,
        )
        return jnp.swapaxes(jnp.sum(found.values, axis=1), 1, 2)

    def operand_gradients(
        self,
        operands: Operands,
        statistics: Statistics,
        point_statistics: PointStatistics,
        y: jax.Array,
        dy: jax.Array,
        dz: jax.Array,
        *,
        scale: float,
    ) -> Operands:
        q, k, mask, dtype = operands.q, operands.k, operands.mask, y.dtype
        pairs = self.blocks.pairs
        if pairs is not None and serves(operands, pairs):
            return all_gradients(
                operands, statistics, point_statistics, y, dy, dz, scale, blocks=pairs, target=self.target
            )
        gradients = dz / statistics.divisor[..., None]
        share = hide_masked(over_mass(dy, point_statistics), mask)
        mean = jnp.sum(share * hide_masked(y, mask).astype(jnp.float32), axis=-1)
        gather = _Pair(
            hide_masked(operands.v, mask),
            jnp.swapaxes(gradients, 1, 2).astype(dtype),
            # Without any point the weights are zeros, not powers of an arbitrary maximum.
            (
                jnp.where(statistics.mass > 0, statistics.maximum, jnp.inf),
                jnp.sum(gradients * statistics.latents, axis=-1),
            ),
        )
        scatter = _Pair(
            share.astype(dtype),
            jnp.swapaxes(statistics.latents, 1, 2).astype(dtype),
            (point_statistics[0], jnp.swapaxes(mean, 1, 2)),
        )
        if not operands.separate:
            dq, dk, dv = self._gradients(q, k, mask, gather, scatter, scale)
            return Operands(dq, dk, dv)
        dq, dk, dv = self._gradients(q, k, mask, gather, None, scale)
        dq_decode, dk_decode, _ = self._gradients(*operands.scatter_pair, mask, None, scatter, scale)
        return Operands(dq, dk, dv, dq_decode, dk_decode)

    def _gradients(
        self,
        q: jax.Array,
        k: jax.Array,
        mask: jax.Array | None,
        gather: "_Pair | None",
        scatter: "_Pair | None",
        scale: float,
    ) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """Return the gradients of one pair of queries and keys, through one or both softmaxes, and of v."""
        points, latents = hide_masked(k, mask), _rows(q, k)
        options = {"blocks": self.blocks.slopes, "target": self.target}
        # For points the gather is normalised for each element of the stream; for latents it is the scatter.
        of_points = [None if x is None else Softmax(x.points, x.latents, *x.statistics) for x in (gather, scatter)]
        of_latents = [None if x is None else Softmax(x.latents, x.points, *x.statistics) for x in (scatter, gather)]
        dk, dv = slopes(points, latents, *of_points, None, scale, values=gather is not None, single=True, **options)
        dq, _ = slopes(
            latents, points, *of_latents, _hidden(mask, k.shape[2]), scale, values=False, single=False, **options
        )
        dq = jnp.swapaxes(jnp.sum(dq, axis=1), 1, 2)
        dv = None if dv is None else hide_masked(dv[:, 0], mask)
        return like_latents(dq, q), hide_masked(dk[:, 0], mask), dv


class _Pair(NamedTuple):
    """What one softmax's slopes are made of: values of points and latents; its maxima and its mean slopes."""

    points: jax.Array
    latents: jax.Array
    statistics: tuple[jax.Array, jax.Array]


def _rows(q: jax.Array, k: jax.Array) -> jax.Array:
    """Return latents `[H, M, D]` or `[B, H, M, D]` in the order of points `[B, N, H, D]`."""
    q = jnp.broadcast_to(q, (k.shape[0], *q.shape[-3:]))
    return jnp.swapaxes(q, 1, 2)


def _hidden(mask: jax.Array | None, heads: int) -> jax.Array | None:
    """Return what hides masked points, `[B, H, N]`."""
    if mask is None:
        return None
    return jnp.broadcast_to(jnp.where(mask, 0.0, -jnp.inf)[:, None], (mask.shape[0], heads, mask.shape[1]))
