"""Activations with their slopes for the kernels, from exp and division alone because Pallas has no erf on the GPU."""

import math
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from jax import Array

from kernels._tiles import LOG2_E
from kernels.residual_mlp.operands import Activation

_SQRT_HALF = math.sqrt(0.5)
_INVERSE_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)
_TANH_SCALE = 2.0 * math.sqrt(2.0 / math.pi)
_TANH_CUBIC = 0.044715
# erfc(z) exp(z²) as a polynomial in 1 / (1 + p z): Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26,
# absolute error 1.5e-7, which is float32 rounding for Φ.
_ERFC_P = 0.3275911
_ERFC_COEFFICIENTS = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)


@runtime_checkable
class Numbers(Protocol):
    """What a compiler of kernels has of float32 tiles."""

    logistic_factor: float

    def exp2(self, x: Array) -> Array:
        """Return 2 to the power of `x`."""

    def reciprocal(self, x: Array) -> Array:
        """Return 1 / `x` of positive numbers."""

    def multiply_add(self, x: Array, factor: Any, term: Any) -> Array:
        """Return `x` * `factor` + `term`."""

    def logistic(self, x: Array) -> Array:
        """Return 1 / (1 + exp(-y)), where `x` is y times `logistic_factor`."""


def value_and_slope(activation: Activation, z: Array, numbers: Numbers) -> tuple[Array, Array]:
    """Return act(z) and act'(z); the caller's unused one is removed by the compiler."""
    if activation == "gelu_erf":
        return _gelu_erf(z, numbers)
    factor = numbers.logistic_factor
    if activation == "gelu_tanh":
        # ½(1 + tanh y) = σ(2y), which needs one exp and is exact at both ends.
        square = z * z
        argument = z * numbers.multiply_add(square, factor * _TANH_SCALE * _TANH_CUBIC, factor * _TANH_SCALE)
        slope = numbers.multiply_add(square, 3.0 * _TANH_SCALE * _TANH_CUBIC, _TANH_SCALE)
    else:
        argument, slope = factor * z, 1.0
    gate = numbers.logistic(argument)
    value = z * gate
    return value, numbers.multiply_add(value * slope, 1.0 - gate, gate)


def _gelu_erf(z: Array, numbers: Numbers) -> tuple[Array, Array]:
    t = numbers.reciprocal(1.0 + (_ERFC_P * _SQRT_HALF) * jnp.abs(z))
    tail = t * _ERFC_COEFFICIENTS[0]
    for coefficient in _ERFC_COEFFICIENTS[1:]:
        tail = t * (tail + coefficient)
    gaussian = numbers.exp2((-0.5 * LOG2_E) * z * z)
    tail = 0.5 * tail * gaussian
    cumulative = jnp.where(z < 0.0, tail, 1.0 - tail)
    return z * cumulative, cumulative + z * (_INVERSE_SQRT_2PI * gaussian)
