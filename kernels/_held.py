"""A number known early in the place of the running maximum of a softmax, and where that is close enough.

Any number can be the reference point of a softmax: with r in the place of the maximum L all weights are exp(L - r)
times as large, and so is their mass. A forward kernel needs neither the largest logit of every tile, nor what has been
summed up brought to a new maximum, where the reference is held: in the gather the maximum of the first tile of each
split's points, if none are masked, in the scatter the largest logit of the head, which the gather knows where both have
common logits. Whether that was close enough is read off the masses afterwards, per head; heads where it was not, of
which NaN and infinity are some, are run once more with the running maximum.

In bfloat16, whose weights have the range of float32, the mass may be far from 1. Parts of float32 hold 2⁻³⁸ of the
reference, so that the scatter's masses may not be much smaller, and the gather's reference, which is no bound, is not
held for them. The backward has to know how large its slopes may be, which is the larger the smaller the least mass is,
and rounds exponents to the spacing of numbers of their size, which is the wider the farther a point lies below the
reference. So the reference of parts is a whole number, and what is stored of a point is brought near its own logits by
another, with a mass from 1 to below 2 (`normalised`), neither of which rounds anything. Its weights are below 2.
"""

import jax
import jax.numpy as jnp

from kernels._tile_products import is_split

# What the mass of a softmax may be, in powers of two.
_LEAST, _LEAST_OF_PARTS, _MOST = -60, -8, 60
# Up to here a whole number and what a mass adds to it are exact in float32.
_LARGEST_WHOLE = 2.0**22
_MANTISSA_BITS, _BIAS = 23, 127


def is_close(mass: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """Return for which heads, `[B, H, 1]` bool, all of the masses `[B, H, ...]` are within range; NaN is not."""
    least = _LEAST_OF_PARTS if is_split(dtype) else _LEAST
    axes = tuple(range(2, mass.ndim))
    within = (jnp.min(mass, axis=axes) >= 2.0**least) & (jnp.max(mass, axis=axes) <= 2.0**_MOST)
    return within[..., None]


def whole_reference(maximum: jax.Array) -> jax.Array:
    """Return the whole numbers next above the largest logits, infinity where those are too large for it, or NaN."""
    whole = jnp.ceil(jnp.maximum(maximum, -_LARGEST_WHOLE))
    return jnp.where(whole <= _LARGEST_WHOLE, whole, jnp.inf)


def normalised(reference: jax.Array, mass: jax.Array, exponent: int) -> tuple[jax.Array, jax.Array]:
    """Return inside a kernel the reference and mass of each row of a softmax with a mass from 1 to below 2, exactly.

    `reference` is a whole number; weights and masses, before and after, are multiplied by 2 to `exponent`. Masses of 0,
    infinity and NaN become such that are out of range by the reference (`mass_from`).
    """
    bits = jax.lax.bitcast_convert_type(mass, jnp.int32)
    power = (bits >> _MANTISSA_BITS) - (_BIAS + exponent)
    mantissa = (bits & ((1 << _MANTISSA_BITS) - 1)) | ((_BIAS + exponent) << _MANTISSA_BITS)
    return reference + power.astype(jnp.float32), jax.lax.bitcast_convert_type(mantissa, jnp.float32)


def mass_from(reference: jax.Array, maximum: jax.Array, mass: jax.Array) -> jax.Array:
    """Return the masses `[B, H, N]` that were `normalised`, for the reference `[B, H, 1]`; of masked points 1.

    `maximum` and `mass` are what was stored, infinity and 1 of masked points.
    """
    power = jnp.where(maximum < jnp.inf, maximum - reference, 0.0)
    return mass * jnp.exp2(power)
