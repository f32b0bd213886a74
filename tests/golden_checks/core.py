"""What every golden check returns: a list of comparisons, each an error with its tolerance."""

from dataclasses import dataclass
from typing import Literal

import numpy as np


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
