"""Per-channel normalisation of fields (sample standard deviation over samples and points, plus 1e-8)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import Array
from jaxtyping import Bool, Float

Field = Float[np.ndarray, "S N C"]
# Entries of which float64 copies are held at a time.
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Normalizer:
    """Affine map per channel: `encode(x) = (x − mean) / std`, in the units of the data; works on NumPy and JAX arrays.

    `mean` and `std` have shape [C], so they broadcast over samples and points, and are float64: coordinates far from
    their origin and fields on a large offset keep their digits only where the mean is subtracted before float32.
    """

    mean: Float[np.ndarray, " C"]
    std: Float[np.ndarray, " C"]

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float64))

    @classmethod
    def identity(cls, channels: int) -> "Normalizer":
        """Return the normalizer that changes nothing."""
        return cls(np.zeros(channels), np.ones(channels))

    @classmethod
    def fit(cls, field: Field, mask: Bool[np.ndarray, "S N"] | None = None) -> "Normalizer":
        """Return the Gaussian normalizer of `field`, from its real points only where a mask is given (ddof = 1)."""
        points = field.reshape(-1, field.shape[-1]) if mask is None else field[mask]
        # float64 accumulation: a float32 mean over 10^6 and more values loses digits that the metric shows
        mean = points.mean(axis=0, dtype=np.float64)
        std = points.std(axis=0, ddof=1, dtype=np.float64) + 1e-8
        return cls(mean, std)

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
        return cls(shift + total / count, np.sqrt(np.maximum(variance, 0.0)) + 1e-8)

    def encode(self, field: np.ndarray | Array) -> np.ndarray | Array:
        """Map data units to normalised units; a NumPy array in float64, which becomes float32 at the end."""
        if isinstance(field, jax.Array):
            return (field - self._like(self.mean, field)) / self._like(self.std, field)
        field = np.asarray(field)
        if field.ndim < 2:
            return ((field - self.mean) / self.std).astype(np.float32)
        return self.encode_into(np.empty(field.shape, np.float32), field)

    def encode_into(self, out: Float[np.ndarray, "... C"], field: np.ndarray) -> Float[np.ndarray, "... C"]:
        """Write the encoded `field` [S, ..., C] into `out`, which may be the same array, and return that."""
        rows = max(1, _BLOCK * len(field) // max(1, field.size))
        for start in range(0, len(field), rows):
            part = field[start : start + rows].astype(np.float64)
            part -= self.mean
            part /= self.std
            out[start : start + rows] = part
        return out

    def decode(self, field: np.ndarray | Array) -> np.ndarray | Array:
        """Map normalised units to data units; a NumPy array gives one in float64."""
        if isinstance(field, jax.Array):
            return field * self._like(self.std, field) + self._like(self.mean, field)
        return field * self.std + self.mean

    @staticmethod
    def _like(values: Float[np.ndarray, " C"], field: Array) -> np.ndarray:
        return values.astype(field.dtype)
