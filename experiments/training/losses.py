"""Losses and metrics per sample; every one honours a mask of real points."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float


def relative_l2(
    prediction: Float[Array, "B N C"], target: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None
) -> Float[Array, " B"]:
    """Return ‖prediction − target‖₂ / ‖target‖₂ per sample, over all points and channels, without an epsilon.

    Points where `mask` is false count in neither norm, whatever they hold.
    """
    if mask is not None:
        prediction = jnp.where(mask[..., None], prediction, 0.0)
        target = jnp.where(mask[..., None], target, 0.0)
    difference = jnp.sum(jnp.square(prediction - target), axis=(1, 2))
    return jnp.sqrt(difference / jnp.sum(jnp.square(target), axis=(1, 2)))
