"""Padded points, which a mask marks as not real."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def zero_padding(x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None) -> Float[Array, "B N C"]:
    """Return x with zeros at the points where `mask` is False, and x itself without a mask.

    Masks inside of the mixers are not enough: a NaN in the padding would reach the parameter gradients as 0 · NaN.
    """
    return x if mask is None else jnp.where(mask[..., None], x, 0)
