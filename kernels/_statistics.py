"""Softmaxes over points that are computed in parts: what a part keeps, and how parts are merged."""

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


def merge_splits(partial: Statistics) -> Statistics:
    """Merge the latents `[B, H, splits, M, C]` that each split of the points gathered; maxima in powers of two."""
    if partial.mass.shape[2] == 1:
        return Statistics(*(x[:, :, 0] for x in partial))
    maximum = jnp.max(partial.maximum, axis=2)
    share = partial.mass * jnp.exp2(partial.maximum - maximum[:, :, None])
    total = jnp.sum(share[..., None] * partial.latents, axis=2)
    merged = Statistics(total, maximum, jnp.sum(share, axis=2))
    return merged._replace(latents=total / merged.divisor[..., None])


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

    `local` comes from the points of this device; `direct` is the cotangent of latents that all devices have.
    """
    if axis_name is None:
        return local + direct
    if axis_name in varying_axes(local):  # then `direct` is complete
        return jax.lax.psum(local, axis_name) + direct
    return jax.lax.psum(local + direct, axis_name)
