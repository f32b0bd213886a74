"""What the Mosaic GPU kernel of all gradients is given, and what is made of its results."""

import jax
import jax.numpy as jnp

from kernels._chunked import hide_masked
from kernels._statistics import Statistics
from kernels._target import Target
from kernels.flare_mixer.mixing import PointStatistics
from kernels.flare_mixer.mosaic_launch import PairTiles
from kernels.flare_mixer.mosaic_pair_arrays import Latents, Points
from kernels.flare_mixer.mosaic_pairs import pair_gradients
from kernels.flare_mixer.one_exponential import one_exponential
from kernels.flare_mixer.operands import Operands
from kernels.gather.pallas import like_latents


def serves(operands: Operands, blocks: PairTiles, fewest: int = 0) -> bool:
    """Return whether the kernel takes these operands: few and narrow, in bfloat16, with one kind of logits.

    A head must have at least `fewest` pairs of a point and a latent.
    """
    latents, points = operands.q.shape[-2], operands.k.shape[1]
    possible = operands.k.dtype == jnp.bfloat16 and not operands.separate and points * latents >= fewest
    return possible and blocks.fits(latents, max(operands.widths))


def all_gradients(
    operands: Operands,
    statistics: Statistics,
    point_statistics: PointStatistics,
    y: jax.Array,
    dy: jax.Array,
    dz: jax.Array,
    scale: float,
    *,
    blocks: PairTiles,
    target: Target,
) -> Operands:
    """Return the gradients of q, k and v; that of q is per sample, `[B, H, M, D]`, float32, where q is."""
    (k, v, mask), dtype = (operands.k, operands.v, operands.mask), y.dtype
    maximum = point_statistics[0] if mask is None else jnp.where(mask[:, None], point_statistics[0], jnp.inf)
    reference, factor = one_exponential(statistics.maximum, maximum, dtype)
    near = reference < jnp.inf
    # With one exponential a point's weights are less the head's maximum, not its own, and so is their sum.
    share = jnp.where(near, jnp.exp2(jnp.where(near, reference, 0.0) - maximum), 1.0) / point_statistics[1]
    gradients = hide_masked(dy.astype(jnp.float32) * jnp.swapaxes(share, 1, 2)[..., None], mask)
    mean = jnp.sum(gradients * hide_masked(y, mask).astype(jnp.float32), axis=-1)
    maximum = jnp.where(near & (maximum < jnp.inf), reference, maximum)
    points = Points(
        hide_masked(k, mask), hide_masked(v, mask), gradients.astype(dtype), maximum, jnp.swapaxes(mean, 1, 2)
    )
    over = dz * (factor / statistics.divisor)[..., None]
    latents = Latents(
        jnp.broadcast_to(operands.q, (k.shape[0], *operands.q.shape[-3:])),
        over.astype(dtype),
        statistics.latents.astype(dtype),
        jnp.sum(over * statistics.latents, axis=-1),
        # Without any point the weights are zeros, not powers of an arbitrary maximum.
        jnp.where(statistics.mass > 0, statistics.maximum, jnp.inf),
    )
    found = pair_gradients(points, latents, near[..., 0], scale, blocks, target)
    queries = like_latents(jnp.sum(found.queries, axis=2) * scale, operands.q)
    return Operands(queries, hide_masked(found.keys, mask), hide_masked(found.values, mask))


def over_mass(dy: jax.Array, statistics: PointStatistics) -> jax.Array:
    """Return float32 dy over the mass of its point's softmax."""
    return dy.astype(jnp.float32) / jnp.swapaxes(statistics[1], 1, 2)[..., None]
