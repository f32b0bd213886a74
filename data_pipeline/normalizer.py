"""Per-channel normalisation of fields (spec: sample standard deviation over samples and points, plus 1e-8)."""

from dataclasses import dataclass

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

    def encode(self, field: np.ndarray | Array) -> np.ndarray | Array:
        """Map data units to normalised units."""
        return (field - self.mean) / self.std

    def decode(self, field: np.ndarray | Array) -> np.ndarray | Array:
        """Map normalised units to data units."""
        return field * self.std + self.mean
