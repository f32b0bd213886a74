"""Powers of two by a polynomial, on the units that multiply and add.

An NVIDIA GPU has an eighth as many units for exponentials as for products and sums, so that kernels whose time goes
into exponentials may be faster where the others take a share of them. With n the integer nearest to x, 2ˣ is 2ⁿ, which
is added to the bits of the exponent, times 2^(x - n), a polynomial of degree 3 with a relative error of at most
1.02e-4: a nineteenth of what rounding a weight to bfloat16 takes.
"""

import jax
import jax.numpy as jnp
import numpy as np

# Of (2^f - 1) / f, -1/2 <= f <= 1/2, with the least largest relative error of 2^f; 2^0 is exact.
COEFFICIENTS = (0.6932829, 0.24221096, 0.05500893)
# What is less counts as this, whose power has no bits left: it is zero.
_LOWEST = -127.0
_HIGHEST = 127.0
# A number with this added has its nearest integer in its lowest bits.
_TO_INTEGER = 1.5 * 2.0**23


def polynomial_exp2(x: jax.Array, limited: bool = False) -> jax.Array:
    """Return 2 to the power of float32 `x` as the instructions below do; of NaN the largest number.

    `x` is at most 127; what is more counts as 127 where it is `limited`, else it gives any number.
    """
    unknown = jnp.isnan(x)
    x = jnp.where(x > _LOWEST, x, _LOWEST)
    x = jnp.minimum(x, _HIGHEST) if limited else x
    power = jnp.round(x)
    rest, result = x - power, jnp.full_like(x, COEFFICIENTS[-1])
    for coefficient in (*COEFFICIENTS[-2::-1], 1.0):
        result = result * rest + coefficient
    bits = jax.lax.bitcast_convert_type(result, jnp.int32) + (power.astype(jnp.int32) << 23)
    return jnp.where(unknown, jnp.finfo(jnp.float32).max, jax.lax.bitcast_convert_type(bits, jnp.float32))


def one_in(x: jax.Array, every: int, limited: bool = False) -> jax.Array:
    """Return 2 to the power of a tile `[rows, columns]`, that of one column in `every` by the polynomial."""
    column = jax.lax.broadcasted_iota(jnp.int32, x.shape, 1)
    return jnp.where(column % every == 0, polynomial_exp2(x, limited), jnp.exp2(x))


def instructions(every: int, limited: bool = False) -> str:
    """Return PTX that takes registers `every` to 2 · `every` - 1 to powers of two, the first by the polynomial."""
    lines = [
        ".reg .f32 x, n, p;",
        ".reg .b32 i, j;",
        # The bits of NaN, 0x7fffffff, and those shifted by 23 are in sum those of the largest number.
        f"max.NaN.f32 x, ${every}, {_literal(_LOWEST)};",
        *([f"min.NaN.f32 x, x, {_literal(_HIGHEST)};"] if limited else []),
        f"add.f32 n, x, {_literal(_TO_INTEGER)};",
        "mov.b32 i, n;",
        f"sub.f32 n, n, {_literal(_TO_INTEGER)};",
        "sub.f32 x, x, n;",
        f"mov.f32 p, {_literal(COEFFICIENTS[-1])};",
        *(f"fma.rn.f32 p, p, x, {_literal(c)};" for c in (*COEFFICIENTS[-2::-1], 1.0)),
        "shl.b32 i, i, 23;",
        "mov.b32 j, p;",
        "add.s32 i, i, j;",
        "mov.b32 $0, i;",
        *(f"ex2.approx.ftz.f32 ${k}, ${every + k};" for k in range(1, every)),
    ]
    return " ".join(("{", *lines, "}"))


def _literal(number: float) -> str:
    return f"0f{np.float32(number).view(np.uint32):08X}"
