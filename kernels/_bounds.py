"""A bound of all logits of a head, which stands in for the running maximum of a softmax where it is close enough.

By Cauchy and Schwarz |s q·k| ≤ c = s max|q| max|k|, and any number can be the reference point of a softmax: exp(S - c)
is at most 1, and at least exp(-2c). As long as that is within what weights are held in, the bound gives the same
softmax without a maximum over every tile, without rescaling what has been summed up, and with one exponential for the
softmaxes over points and over latents. Where keys and queries are normalised, c is of the order of √D. It is computed
from the operands, and heads for which it is too wide take the running maximum.
"""

import jax
import jax.numpy as jnp

from kernels._tiles import LOG2_E, is_split

# Powers of two that weights may span. Parts of float16 hold 2⁻³⁸ of the largest weight, and 2⁻²⁴ are wanted.
WIDEST_RANGE, WIDEST_RANGE_OF_PARTS = 60.0, 12.0
# More than what rounding takes from the norms and the products.
_SLACK = 1.0 + 2.0**-10


def logit_bound(q: jax.Array, k: jax.Array, mask: jax.Array | None, scale: float) -> jax.Array:
    """Return the bound `[B, H, 1]` of the logits in powers of two, infinity for heads where it is too wide.

    q is `[H, M, D]` or `[B, H, M, D]`, k `[B, N, H, D]`; masked points do not count, whatever they hold.
    """
    latents = jnp.atleast_2d(jnp.sqrt(jnp.max(_squares(q), axis=-1)))
    squares = _squares(k)
    if mask is not None:
        squares = jnp.where(mask[:, :, None], squares, 0.0)
    bound = (_SLACK * scale * LOG2_E) * latents * jnp.sqrt(jnp.max(squares, axis=1))
    widest = WIDEST_RANGE_OF_PARTS if is_split(k.dtype) else WIDEST_RANGE
    return jnp.where(2 * bound <= widest, bound, jnp.inf)[..., None]  # NaN is not within the range either


def _squares(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(x.astype(jnp.float32)), axis=-1)
