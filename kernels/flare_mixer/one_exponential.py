"""Where one exponential per pair serves both softmaxes of the gradients, and what makes it the other's weight.

With L_m and l_n the maxima of latent m and point n, and c the largest L_m, the gather's weight exp(s - L_m) is the
scatter's exp(s - l_n) times exp(l_n - c) times exp(c - L_m): the two factors go into the values of the point and of the
latent, and both slopes become one sum of products. This is exact as long as no factor leaves the range of float32,
which is decided per head before the launch. Of weights in parts, and of the latents' values, what is below 2⁻³⁸ of the
largest is lost, and the latents' factors make that more: they may span less. The points' factors stay outside of parts.
"""

import jax
import jax.numpy as jnp

from kernels._bounds import WIDEST_RANGE_OF_PARTS
from kernels._tile_products import is_split

# Powers of two that the factors may span: a weight that is lost then is below 2⁻⁶⁶.
WIDEST_RANGE = 60.0


def one_exponential(
    maximum: jax.Array, point_maximum: jax.Array, dtype: jax.typing.DTypeLike
) -> tuple[jax.Array, jax.Array]:
    """Return the reference c `[B, H, 1]` of one exponential and the latents' factors `[B, H, M]`.

    Heads whose maxima, `[B, H, M]` and `[B, H, N]`, lie too far apart for operands of `dtype` have an infinite
    reference and factors of 1.
    """
    reference = jnp.max(maximum, axis=-1, keepdims=True)
    of_latents, of_points = (jnp.min(x, axis=-1, keepdims=True) for x in (maximum, point_maximum))
    near = reference - jnp.minimum(of_latents, of_points) <= WIDEST_RANGE
    if is_split(dtype):
        near &= reference - of_latents <= WIDEST_RANGE_OF_PARTS
    return jnp.where(near, reference, jnp.inf), jnp.where(near, jnp.exp2(reference - maximum), 1.0)
