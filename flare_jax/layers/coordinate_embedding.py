"""Sinusoidal embedding of point coordinates, as transformers embed positions (arXiv 1706.03762, section 3.5)."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flare_jax.checks import check_sizes

MAX_WAVELENGTH = 10000.0


def check_embedding_width(channel_dim: int, space_dim: int) -> None:
    """Raise unless every one of `space_dim` axes gets at least a sine and a cosine of `channel_dim` channels."""
    check_sizes(channel_dim=channel_dim, space_dim=space_dim)
    if channel_dim < 2 * space_dim:
        raise ValueError(
            f"channel_dim is {channel_dim} but the embedding of {space_dim} coordinates needs at least "
            f"{2 * space_dim} channels; increase channel_dim"
        )


def embed_coordinates(p: Float[Array, "*B C_in"], channel_dim: int) -> Float[Array, "*B C"]:
    """Return sines, then cosines, of every coordinate in turn, in float32; the channels that are left over are zero.

    Every axis has the same even number w of channels, as many as fit, and the frequencies 10000^(−2i/w), i < w/2:
    coordinates of the order of 100 make good use of them. Float32 whatever the compute dtype, because the phase of
    a large coordinate needs its digits.
    """
    space_dim = p.shape[-1]
    check_embedding_width(channel_dim, space_dim)
    half = channel_dim // space_dim // 2
    frequencies = MAX_WAVELENGTH ** (-np.arange(half) / half)
    angles = p.astype(jnp.float32)[..., None] * jnp.asarray(frequencies, jnp.float32)
    waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1).reshape(*p.shape[:-1], -1)
    return jnp.pad(waves, [(0, 0)] * (p.ndim - 1) + [(0, channel_dim - waves.shape[-1])])
