"""Softmaxes over points that are computed in parts: what a part keeps, and how parts on several devices are merged."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kernels._sharding import varying_axes


class Statistics(NamedTuple):
    """Float32 latents `[B, H, M, C]` with the maximum and mass `[B, H, M]` of their softmax over the points.

    The mass is the sum of exp(logit - maximum), 0 where no point takes part.
    """

    latents: jax.Array
    maximum: jax.Array
    mass: jax.Array

    @property
    def divisor(self) -> jax.Array:
        """The mass, 1 where it is 0."""
        return jnp.where(self.mass > 0, self.mass, 1.0)


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

    `local` varies over the axis where `jax.shard_map` types its arrays (`check_vma`). Then the cotangent `direct` of
    the replicated latents is complete on every device; otherwise each device holds its share, which is summed as well.
    """
    if axis_name is None:
        return local + direct
    if axis_name in varying_axes(local):
        return jax.lax.psum(local, axis_name) + direct
    return jax.lax.psum(local + direct, axis_name)
