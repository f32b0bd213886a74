"""Per-channel normalisation of fields (sample standard deviation over samples and points, plus 1e-8)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax import Array
from jaxtyping import Bool, Float

Field = Float[np.ndarray, "S N C"]


@dataclass(frozen=True)
class Normalizer:
    """Affine map per channel: `encode(x) = (x − mean) / std`, in the units of the data; works on NumPy and JAX arrays.

    `mean` and `std` have shape [C], so they broadcast over samples and points.
    """

    mean: Float[np.ndarray, " C"]
    std: Float[np.ndarray, " C"]

    @classmethod
    def identity(cls, channels: int) -> "Normalizer":
        """Return the normalizer that changes nothing."""
        return cls(np.zeros(channels, np.float32), np.ones(channels, np.float32))

    @classmethod
    def fit(cls, field: Field, mask: Bool[np.ndarray, "S N"] | None = None) -> "Normalizer":
        """Return the Gaussian normalizer of `field`, from its real points only where a mask is given (ddof = 1)."""
        points = field.reshape(-1, field.shape[-1]) if mask is None else field[mask]
        # float64 accumulation: a float32 mean over 10^6 and more values loses digits that the metric shows
        mean = points.mean(axis=0, dtype=np.float64)
        std = points.std(axis=0, ddof=1, dtype=np.float64) + 1e-8
        return cls(mean.astype(np.float32), std.astype(np.float32))

    @classmethod
    def fit_parts(cls, parts: Iterable[np.ndarray]) -> "Normalizer":
        """Return the Gaussian normalizer of arrays [..., C] as if they were one (ddof = 1), held one at a time."""
        count, total, squares = 0, 0.0, 0.0
        shift: Any = None
        for part in parts:
            values = part.reshape(-1, part.shape[-1]).astype(np.float64)
            # Shifted by a value of the data, so that the difference of the two sums keeps its digits.
            shift = values[0].copy() if shift is None else shift
            values -= shift
            count += len(values)
            total = total + values.sum(0)
            squares = squares + np.square(values).sum(0)
        variance = (squares - total**2 / count) / (count - 1)
        std = np.sqrt(np.maximum(variance, 0.0)) + 1e-8
        return cls((shift + total / count).astype(np.float32), std.astype(np.float32))

    def encode(self, field: np.ndarray | Array) -> np.ndarray | Array:
        """Map data units to normalised units."""
        return (field - self.mean) / self.std

    def decode(self, field: np.ndarray | Array) -> np.ndarray | Array:
        """Map normalised units to data units."""
        return field * self.std + self.mean
