"""Statistics of arrays that are never all in memory: per sample, then merged in a fixed order."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

_ARRAYS = ("mean", "squares", "low", "high", "single")


@dataclass(frozen=True)
class Moments:
    """Number of points, and per channel [C] in float64: mean, sum of squared deviations from it, extreme values.

    `single` tells of which channels all values are float32 numbers, which says how large their round-off is.
    """

    count: int
    mean: Float[np.ndarray, " C"]
    squares: Float[np.ndarray, " C"]
    low: Float[np.ndarray, " C"]
    high: Float[np.ndarray, " C"]
    single: Bool[np.ndarray, " C"]

    @classmethod
    def of(cls, array: Float[np.ndarray, "N C"]) -> "Moments":
        """Return the statistics of one array."""
        wide = array.astype(np.float64)
        mean = wide.mean(0)
        single = (array == array.astype(np.float32)).all(0)
        return cls(len(array), mean, np.square(wide - mean).sum(0), wide.min(0), wide.max(0), single)

    @classmethod
    def merge(cls, parts: Iterable["Moments"]) -> "Moments":
        """Return the statistics of all arrays together (pairwise update of Chan, Golub & LeVeque 1979)."""
        first, *rest = parts
        count, mean, squares, low, high = first.count, first.mean, first.squares, first.low, first.high
        single = first.single
        for part in rest:
            total = count + part.count
            difference = part.mean - mean
            squares = squares + part.squares + np.square(difference) * (count * part.count / total)
            mean = mean + difference * (part.count / total)
            count, low, high = total, np.minimum(low, part.low), np.maximum(high, part.high)
            single = single & part.single
        return cls(count, mean, squares, low, high, single)

    @property
    def std(self) -> Float[np.ndarray, " C"]:
        """The sample standard deviation (ddof 1)."""
        return np.sqrt(self.squares / max(self.count - 1, 1))

    @property
    def round_off(self) -> Float[np.ndarray, " C"]:
        """The size of differences that are rounding of the largest magnitude, and no values."""
        digits = np.where(self.single, np.finfo(np.float32).eps, np.finfo(np.float64).eps)
        return 4 * digits * np.maximum(np.abs(self.low), np.abs(self.high))

    @property
    def mean_square(self) -> Float[np.ndarray, " C"]:
        """The mean of the squared values."""
        return self.squares / self.count + np.square(self.mean)

    def to_json(self) -> dict[str, list[float] | list[bool] | int]:
        """Return the numbers for a JSON file, which keeps every digit of them."""
        arrays = {name: getattr(self, name).tolist() for name in _ARRAYS}
        return {"count": self.count, **arrays}

    @classmethod
    def from_json(cls, content: dict[str, list[float] | list[bool] | int]) -> "Moments":
        """Undo `to_json`; raises ValueError, TypeError or KeyError for anything else."""
        *numbers, single = (np.array(content[name], bool if name == "single" else np.float64) for name in _ARRAYS)
        return cls(int(content["count"]), *numbers, single)
