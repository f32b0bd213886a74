"""A bound of all logits of a head, which stands in for the running maximum of a softmax where it is close enough.

By Cauchy and Schwarz |s q·k| ≤ c = s max|q| max|k|, and any number can be the reference point of a softmax: exp(S - c)
is at most 1, and at least exp(-2c). As long as that is within what weights are held in, the bound gives the same
softmax without a maximum over every tile, without rescaling what has been summed up, and with one exponential for the
softmaxes over points and over latents. Where keys and queries are normalised, c is of the order of √D. The longest key
is what the caller says of it, as the parameters of a norm do: to look for it takes longer than the bound saves. Heads
for which the bound is too wide take the running maximum.
"""

import jax
import jax.numpy as jnp

from kernels._tile_products import is_split
from kernels._tiles import LOG2_E

# Powers of two that weights may span. Parts of float16 hold 2⁻³⁸ of the largest weight, and 2⁻²⁴ are wanted.
WIDEST_RANGE, WIDEST_RANGE_OF_PARTS = 60.0, 12.0
# More than what rounding takes from the norms and the products.
_SLACK = 1.0 + 2.0**-10


def logit_bound(q: jax.Array, largest_key: jax.Array, scale: float) -> jax.Array:
    """Return the bound `[1 or B, H, 1]` of the logits in powers of two, infinity for heads where it is too wide.

    q is `[H, M, D]` or `[B, H, M, D]`; no key is longer than `largest_key`.
    """
    longest = jnp.sqrt(jnp.max(jnp.sum(jnp.square(q.astype(jnp.float32)), axis=-1), axis=-1))
    bound = (_SLACK * scale * LOG2_E) * jnp.atleast_2d(longest) * largest_key
    widest = WIDEST_RANGE_OF_PARTS if is_split(q.dtype) else WIDEST_RANGE
    return jnp.where(2 * bound <= widest, bound, jnp.inf)[..., None]  # NaN is not within the range either
