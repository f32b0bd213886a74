"""A number known early in the place of the running maximum of a softmax, and where that is close enough.

Any number can be the reference point of a softmax: with r in the place of the maximum L all weights are exp(L - r)
times as large, and so is their mass. A forward kernel needs neither the largest logit of every tile, nor what has been
summed up brought to a new maximum, where the reference is held: in the gather the maximum of the first tile of each
split's points, if none are masked, in the scatter the largest logit of the head, which the gather knows where both have
common logits. Whether that was close enough is read off the masses afterwards, per head; heads where it was not, of
which NaN and infinity are some, are run once more with the running maximum.

That is for bfloat16, whose weights have the range of float32, so that a mass may be far from 1. Parts of float32
overflow beyond the reference and hold 2⁻³⁸ of it: with common logits each head has points far below that, and all would
run twice.
"""

import jax
import jax.numpy as jnp

from kernels._tile_products import is_split

# What the mass of a softmax may be, in powers of two.
_LEAST, _MOST = -60, 60


def check_held(held: bool, operation: str, dtype: jax.typing.DTypeLike) -> None:
    """Raise ValueError where the reference is `held` for keys that are multiplied in parts."""
    if held and is_split(dtype):
        raise ValueError(
            f"a {operation} with held=True has keys of {jnp.dtype(dtype)}; give it held=False, for parts of float32 "
            "have not the range for it"
        )


def is_close(mass: jax.Array) -> jax.Array:
    """Return for which heads, `[B, H, 1]` bool, all of the masses `[B, H, ...]` are within range; NaN is not."""
    axes = tuple(range(2, mass.ndim))
    within = (jnp.min(mass, axis=axes) >= 2.0**_LEAST) & (jnp.max(mass, axis=axes) <= 2.0**_MOST)
    return within[..., None]
