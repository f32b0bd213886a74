"""Comparison of arrays by RMS-error ratio, which is meaningful for bf16 and for long reductions."""

import math

import jax
import jax.numpy as jnp
import numpy as np


def rms_ratio(actual, expected) -> float:
    """Return ‖actual − expected‖ / ‖expected‖ in float64; infinite when anything is not finite."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, f"shapes differ: {actual.shape} and {expected.shape}"
    if not (np.isfinite(actual).all() and np.isfinite(expected).all()):
        return float("inf")
    return float(np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), 1e-30))


def assert_close(name: str, actual, expected, ratio: float, absolute: float = 1e-12) -> None:
    """Fail unless the RMS ratio is at most `ratio` or the largest error at most `absolute`."""
    error = rms_ratio(actual, expected)
    largest = float(np.max(np.abs(np.asarray(actual, np.float64) - np.asarray(expected, np.float64)), initial=0.0))
    assert error <= ratio or largest <= absolute, (
        f"{name}: RMS ratio {error:.2e} > {ratio:.0e}, max error {largest:.2e}"
    )


def cotangent(number: int, shape: tuple[int, ...]) -> jax.Array:
    """Return the fixed random array of this number and shape: float32, spread evenly, of mean 0 and variance 1.

    For programs, in which `jax.random.normal` takes as long to trace and compile as all else of a small reference. The
    places of the numbers are hashed as MurmurHash3 ends: in integers, so that all programs have the same bits.
    """
    bits = jnp.arange(math.prod(shape), dtype=jnp.uint32) + np.uint32(number * 0x9E3779B9 % 2**32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        bits = (bits ^ (bits >> shift)) * np.uint32(factor)
    even = (bits >> 8).astype(jnp.float32) * 2.0**-23 - 1.0
    return (3**0.5 * even).reshape(shape)


def round_to_bfloat16(x):
    """Round float32 values to those of bfloat16, so that every dtype sees the same input.

    Not by casting there and back: inside of jit XLA leaves such a pair out, for it allows itself excess precision, and
    two programs then differ by 1e-3.
    """
    return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)
