"""Powers of two that bring float32 operands into the range of the float16 parts they are multiplied in.

Every operand is multiplied by one power of two per sample and head, which brings its largest entry below 2¹⁴: entries
down to 2⁻¹⁵ of the largest keep all their bits, smaller ones lose at most 2⁻³⁸ of the largest. What a product is then
too large by is divided out where a kernel multiplies anyway: in the factor of the logits, the slopes, the results.
Exponents are int32 arrays `[B, H]`; those of operands that are not split, of 16 bits, are the integer 0, and what is
made of them are constants.
"""

from typing import Any

import jax
import jax.numpy as jnp

from kernels._layout import Layout
from kernels._pallas import Operand
from kernels._tile_products import is_split

Exponent = jax.Array | int
# Float16 ends at 2¹⁶; two bits are left for what rounding takes beyond the bounds of slopes.
LARGEST_EXPONENT = 14
# Operands all of whose entries are smaller than 2⁻⁸⁶, or larger than 2¹¹⁴, are not brought all the way.
_MOST = 100
_BIAS = 127


def weight_exponent(dtype: jax.typing.DTypeLike) -> int:
    """Return by which power of two softmax weights, at most 1, are multiplied before they are split."""
    return LARGEST_EXPONENT if is_split(dtype) else 0


def latent_exponent(x: jax.Array) -> Exponent:
    """Return the exponent of `[B, H, M, D]`, or `[1, H]` of `[H, M, D]`."""
    if not is_split(x.dtype):
        return 0
    return jnp.atleast_2d(_exponent(jnp.max(jnp.abs(x), axis=(-2, -1))))


def row_exponent(x: jax.Array, exponent: Exponent) -> Exponent:
    """Return the exponent of the longest row of `[B, H, M, D]`, whose entries have `exponent`.

    Lengths are those of rows that are scaled, for squares may leave the range of float32.
    """
    if isinstance(exponent, int):
        return 0
    longest = jnp.sqrt(jnp.max(jnp.sum(jnp.square(scaled(x, exponent)), axis=-1), axis=-1))
    return exponent + jnp.minimum(_exponent(longest), 0)


def point_exponent(x: jax.Array, mask: jax.Array | None, mass: jax.Array | None = None) -> Exponent:
    """Return the exponent of `[B, N, H, D]`, divided by at least the least of `mass` `[B, H, N]` if given."""
    if not is_split(x.dtype):
        return 0
    size = jnp.abs(x)
    if mask is not None:
        size = jnp.where(mask[:, :, None, None], size, 0.0)
    largest = _largest_of_heads(size)
    return _exponent(largest if mass is None else largest / jnp.min(mass, axis=-1))


def _largest_of_heads(size: jax.Array) -> jax.Array:
    """Return the largest entries `[B, H]` of `[B, N, H, D]`, none of which is negative.

    XLA makes one reduction of two that follow each other, which takes the few entries of a row first and writes a
    number for each point and head. That of the points for each channel reads whole lines and writes next to nothing;
    it stays by itself because the second one compares bits, whose order is that of such numbers.
    """
    bits = jax.lax.bitcast_convert_type(jnp.max(size, axis=1), jnp.int32)
    return jax.lax.bitcast_convert_type(jnp.max(bits, axis=-1), jnp.float32)


def key_exponent(x: jax.Array, mask: jax.Array | None, largest: jax.Array | None) -> Exponent:
    """Return the exponent of keys `[B, N, H, D]`, without reading them where the `largest` of them is bounded."""
    if largest is None or not is_split(x.dtype):
        return point_exponent(x, mask)
    return _exponent(jnp.reshape(largest, (1, 1)))


def _exponent(largest: jax.Array) -> jax.Array:
    bits = jax.lax.bitcast_convert_type(largest, jnp.int32)
    return jnp.clip(LARGEST_EXPONENT - ((bits >> 23) - (_BIAS - 1)), -_MOST, _MOST)


def tile_exponent(largest: jax.Array, dtype: jax.typing.DTypeLike) -> Exponent:
    """Return inside a kernel the exponent of an operand of this dtype whose largest entry has this size."""
    return _exponent(largest) if is_split(dtype) else 0


def number(constant: float, exponent: Exponent) -> jax.Array | float:
    """Return the constant times 2 to the power of the exponent."""
    return constant * (2.0**exponent if isinstance(exponent, int) else power_of_two(exponent))


def slope_exponent(channels: int, gather: Exponent, scatter: Exponent, of_rows: bool = False) -> Exponent:
    """Return the exponent of the logits' gradients, which are split as well.

    `gather` and `scatter` are those of the two products of value rows, `channels` long, that make up the slopes. Each
    slope is a difference of two such products, and a gradient the sum of two slopes times weights of at most 1. With
    `of_rows` the exponent of one factor of each is that of its longest row, and by Cauchy and Schwarz a product is at
    most the square root of `channels` as large as that row times the largest entry of the other factor: a bound closer
    by two bits or so, which the smallest of the gradients keep.
    """
    if isinstance(gather, int):
        return 0
    terms = (channels - 1).bit_length()
    growth = 2 + ((terms + 1) // 2 if of_rows else terms) + 2 * LARGEST_EXPONENT
    return jnp.clip(LARGEST_EXPONENT - growth + jnp.minimum(gather, scatter), -_MOST, _MOST)


def scaled(x: jax.Array, exponent: Exponent) -> jax.Array:
    """Multiply `[H, M, D]` or `[B, H, M, D]` by its power of two."""
    if isinstance(exponent, int):
        return x
    factor = power_of_two(exponent)[..., None, None]
    return x * (factor[0] if x.ndim == 3 else factor)


def power_of_two(exponent: jax.Array) -> jax.Array:
    """Return 2 to the power of int32 exponents, exactly; 0 and infinity beyond the range of normal numbers."""
    bits = (jnp.clip(exponent, -_BIAS, _BIAS + 1) + _BIAS) << 23
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


def head_numbers(*numbers: tuple[float, Exponent]) -> tuple[float, ...] | jax.Array:
    """Return each constant times 2 to the power of its exponent, `[B, H, K]`; constants if no exponent is an array."""
    if all(isinstance(exponent, int) for _, exponent in numbers):
        return tuple(constant * 2.0**exponent for constant, exponent in numbers)
    arrays = [jnp.asarray(exponent) for _, exponent in numbers]
    shape = jnp.broadcast_shapes(*(x.shape for x in arrays))
    return jnp.stack(
        [jnp.broadcast_to(c * power_of_two(x), shape) for (c, _), x in zip(numbers, arrays, strict=True)], axis=-1
    )


def numbers_operand(
    numbers: tuple[float, ...] | jax.Array, layout: Layout
) -> tuple[tuple[float, ...] | None, Operand | None]:
    """Return `head_numbers` as constants of a kernel or, with None for those, as an operand."""
    return (numbers, None) if isinstance(numbers, tuple) else (None, layout.head_numbers(numbers))


def read_numbers(constants: tuple[float, ...] | None, ref: Any) -> tuple[jax.Array | float, ...]:
    """Return inside a kernel the values of `head_numbers`; constants have no reference."""
    return constants if constants is not None else tuple(ref[i] for i in range(ref.shape[0]))


def logit_factor(exponent: Exponent) -> Exponent:
    """Raise an exponent whose power might be 0: times a hidden logit, minus infinity, that is NaN.

    Logits that this concerns are of the order of 2⁻⁷² at most, before and after.
    """
    return exponent if isinstance(exponent, int) else jnp.maximum(exponent, -_MOST)
