"""Merging the parts of a mixer whose points are sharded over a mesh axis inside `jax.shard_map`."""

from collections.abc import Callable

import jax

from kernels._sharding import varying_axes
from kernels.flare_mixer.operands import Statistics


def merge_devices(
    local: Statistics, axis_name: str | None, exponential: Callable[[jax.Array], jax.Array]
) -> Statistics:
    """Merge the latents that the devices along `axis_name` gathered from their own points.

    `exponential` is the function whose inverse the maxima are counted in: `jnp.exp` or `jnp.exp2`.
    """
    if axis_name is None:
        return local
    maximum = jax.lax.pmax(local.maximum, axis_name)
    share = local.mass * exponential(local.maximum - maximum)
    mass, total = jax.lax.psum((share, share[..., None] * local.latents), axis_name)
    merged = Statistics(total, maximum, mass)
    return merged._replace(latents=total / merged.divisor[..., None])


def sum_latent_gradient(local: jax.Array, direct: jax.Array, axis_name: str | None) -> jax.Array:
    """Add the latents' gradient through the points of all devices to the one through the returned latents themselves.

    With typed axes (shard_map's `check_vma`) the cotangent `direct` of the replicated latents is complete on every
    device; without them each device holds its share, which has to be summed as well.
    """
    if axis_name is None:
        return local + direct
    if axis_name in varying_axes(local):
        return jax.lax.psum(local, axis_name) + direct
    return jax.lax.psum(local + direct, axis_name)
