"""A number known early in the place of the running maximum of a softmax, and where that is close enough.

Any number can be the reference point of a softmax: with r in the place of the maximum L all weights are exp(L - r)
times as large, and so is their mass. A forward kernel needs neither the largest logit of every tile, nor what has been
summed up brought to a new maximum, where the reference is held: in the gather the maximum of the first tile of each
split's points, if none are masked, in the scatter the largest logit of the head, which the gather knows where both have
common logits. Whether that was close enough is read off the masses afterwards, per head; heads where it was not, of
which NaN and infinity are some, are run once more with the running maximum.

In bfloat16, whose weights have the range of float32, the mass may be far from 1. Parts of float32 hold 2⁻³⁸ of the
reference, so that the scatter's masses may not be much smaller, and the gather's reference, which is no bound, is not
held for them.
"""

import jax
import jax.numpy as jnp

from kernels._tile_products import is_split

# What the mass of a softmax may be, in powers of two.
_LEAST, _LEAST_OF_PARTS, _MOST = -60, -8, 60


def is_close(mass: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """Return for which heads, `[B, H, 1]` bool, all of the masses `[B, H, ...]` are within range; NaN is not."""
    least = _LEAST_OF_PARTS if is_split(dtype) else _LEAST
    axes = tuple(range(2, mass.ndim))
    within = (jnp.min(mass, axis=axes) >= 2.0**least) & (jnp.max(mass, axis=axes) <= 2.0**_MOST)
    return within[..., None]
