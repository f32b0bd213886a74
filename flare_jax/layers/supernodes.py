"""Choice of supernodes among the points and search of their neighbours, both of static size (arXiv 2402.12364)."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from flare_jax.layers.dropout import Key

# Distances stored at a time, about 64 MiB: more points make the search slower, not larger.
_DISTANCES_AT_A_TIME = 2**24


def spread_supernodes(
    num_supernodes: int, batch_size: int, num_points: int, mask: Bool[Array, "B N"] | None = None
) -> tuple[Int[Array, "B M"], Bool[Array, "B M"]]:
    """Return the points `floor(i·n/m)` of every sample and which of them exist, the choice for evaluation.

    n is the number of real points of the sample, which are numbered in their order, and m the smaller of n and
    `num_supernodes`. There are `min(num_supernodes, N)` indices; those from m on do not exist.
    """
    size = min(num_supernodes, num_points)
    steps = np.arange(size)
    if mask is None:
        index = jnp.asarray(steps * num_points // size, jnp.int32)
        return jnp.broadcast_to(index, (batch_size, size)), jnp.ones((batch_size, size), bool)
    real = mask.sum(-1, dtype=jnp.int32)[:, None]
    chosen = jnp.clip(real, 1, size)
    # floor(i·n/m) without the product i·n, which overflows 32 bits for millions of points.
    rank = steps * (real // chosen) + steps * (real % chosen) // chosen
    real_first = jnp.argsort(~mask, axis=-1, stable=True)
    index = jnp.take_along_axis(real_first, jnp.minimum(rank, num_points - 1), axis=-1)
    return index, jnp.broadcast_to(steps < real, index.shape)


def draw_supernodes(
    key: Key, num_supernodes: int, batch_size: int, num_points: int, mask: Bool[Array, "B N"] | None = None
) -> tuple[Int[Array, "B M"], Bool[Array, "B M"]]:
    """Return random points of every sample, without replacement, and which of them exist, the choice for training."""
    size = min(num_supernodes, num_points)
    rank = jax.random.uniform(key, (batch_size, num_points))
    rank = rank if mask is None else jnp.where(mask, rank, -1.0)
    chosen, index = jax.lax.top_k(rank, size)
    return index, chosen >= 0


def nearest_within(
    p: Float[Array, "B N C_in"],
    supernodes: Int[Array, "B M"],
    *,
    radius: float,
    max_degree: int,
    mask: Bool[Array, "B N"] | None = None,
) -> tuple[Int[Array, "B M _"], Bool[Array, "B M _"]]:
    """Return, for each supernode, the nearest real points within `radius`, itself included, and which of them exist.

    They are sorted by distance, then index, and `min(max_degree, N)` at most. `p` are coordinates in units of `radius`;
    distances are computed from differences in float32, which the expanded square would not resolve.
    """
    p = jax.lax.stop_gradient(p.astype(jnp.float32))
    degree = min(max_degree, p.shape[1])

    def search(sample: tuple[Array, ...], supernode: Array) -> tuple[Array, Array]:
        points, real = sample
        squares = jnp.square(points - points[supernode]).sum(-1)
        # lax.top_k puts the lower of two indices of equal values first.
        nearest, index = jax.lax.top_k(jnp.where(real, -squares, -jnp.inf), degree)
        return index, nearest >= -(radius**2)

    def search_sample(sample: tuple[Array, ...]) -> tuple[Array, Array]:
        points, real, centres = sample
        at_a_time = max(1, _DISTANCES_AT_A_TIME // points.shape[0])
        return jax.lax.map(lambda s: search((points, real), s), centres, batch_size=min(at_a_time, centres.shape[0]))

    real = jnp.ones(p.shape[:2], bool) if mask is None else mask
    return jax.lax.map(search_sample, (p, real, supernodes))
