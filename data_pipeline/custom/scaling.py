"""How the inputs and targets of a user's data set are scaled, from statistics of its training points."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from data_pipeline.normalizer import Normalizer
from data_pipeline.streaming.moments import Moments


def varying(features: Moments, space: int) -> tuple[int, ...]:
    """Return the columns of the inputs without the coordinates that are the same everywhere."""
    varies = features.high > features.low
    return tuple(column for column in range(len(varies)) if column >= space or varies[column])


def input_normalizer(features: Moments, columns: tuple[int, ...]) -> Normalizer:
    """Return the map of the chosen columns to mean 0 and standard deviation 1.

    Coordinates too, and not to the unit cube: where a far field surrounds a small body, most points would be in a
    corner of it, and networks learn such fields slowly or not at all.
    """
    mean, std = (getattr(features, name)[list(columns)] for name in ("mean", "std"))
    return Normalizer(mean.astype(np.float32), _without_zeros(std, mean))


def target_scales(targets: Moments, widths: Mapping[str, int]) -> Float[np.ndarray, " C"]:
    """Return by what every target channel is divided: the root mean square of its field."""
    ends = np.cumsum(list(widths.values()))
    squares = [part.sum() for part in np.split(targets.mean_square, ends[:-1])]
    return _without_zeros(np.repeat(np.sqrt(squares), list(widths.values())), np.zeros(ends[-1]))


def target_normalizer(targets: Moments, scales: Float[np.ndarray, " C"]) -> Normalizer:
    """Return the Gaussian normalizer of targets divided by `scales`."""
    mean, std = targets.mean / scales, targets.std / scales
    return Normalizer(mean.astype(np.float32), _without_zeros(std, mean))


def _without_zeros(scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return scales by which can be divided: 1 for channels that are constant up to rounding."""
    return np.where(scale > 1e-7 * np.abs(shift), scale, 1.0).astype(np.float32)
