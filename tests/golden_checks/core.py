"""What every golden check returns: a list of comparisons, each an error with its tolerance."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

# Of the terms that a gradient is the sum of: what is below is their rounding, and the gradient itself is zero.
CANCELLED = 1e-6


@dataclass(frozen=True)
class Comparison:
    """One compared array: `error` must not exceed `tolerance`."""

    name: str
    kind: Literal["output", "gradient"]
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return bool(self.error <= self.tolerance)  # NaN compares false, so it fails


def largest_error(actual, expected) -> float:
    """Return max |actual − expected| in float64, infinite if the shapes differ."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    if actual.shape != expected.shape:
        return float("inf")
    return float(np.max(np.abs(actual - expected), initial=0.0))


def largest_entry(array) -> float:
    """Return max |array|, 0 of an empty one."""
    return float(np.max(np.abs(np.asarray(array, np.float64)), initial=0.0))


def gradient_size(expected, value, pairs: Iterable[tuple[object, object]]) -> float:
    """Return the size by which an error of the gradient `expected` for `value` is judged: that of its largest entry.

    A gradient that is zero, as that of a bias in front of a softmax, is rounding of terms that cancel, and is judged by
    the size of these. `pairs` are arrays of the same program with their gradients, the output with its cotangent among
    them: their products are all terms of one loss, so that the largest over the size of `value` is that of the terms.
    """
    size = largest_entry(expected)
    products = [largest_entry(array) * largest_entry(gradient) for array, gradient in pairs]
    terms = max(products, default=0.0) / max(largest_entry(value), np.finfo(np.float32).tiny)
    return terms if size <= CANCELLED * terms else size
