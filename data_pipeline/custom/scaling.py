"""How the inputs and targets of a user's data set are scaled, from statistics of its training points."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float

from data_pipeline.normalizer import Normalizer
from data_pipeline.streaming.moments import Moments

# Of the largest extent of the points; beside it a coordinate of less than this is constant.
FLAT = 1e-6


def varying_axes(points: Moments, space: int) -> Bool[np.ndarray, " D"]:
    """Return which of the first `space` channels, the coordinates, are not the same everywhere up to round-off."""
    extents = (points.high - points.low)[:space]
    return extents > np.maximum(FLAT * extents.max(initial=0.0), points.round_off[:space])


def varying(features: Moments, space: int) -> tuple[int, ...]:
    """Return the columns of the inputs without the coordinates that are the same everywhere."""
    axes = np.flatnonzero(varying_axes(features, space)).tolist()
    return (*axes, *range(space, len(features.mean)))


def input_normalizer(features: Moments, columns: tuple[int, ...]) -> Normalizer:
    """Return the map of the chosen columns to mean 0 and standard deviation 1.

    Coordinates too, and not to the unit cube: where a far field surrounds a small body, most points would be in a
    corner of it, and networks learn such fields slowly or not at all.
    """
    chosen = list(columns)
    return Normalizer(features.mean[chosen], _without_zeros(features.std, features.round_off)[chosen])


def target_scales(targets: Moments, widths: Mapping[str, int]) -> Float[np.ndarray, " C"]:
    """Return by what every target channel is divided: the spread of its field about the mean of each channel.

    A field that is the same everywhere up to round-off is divided by its size.
    """
    ends = np.cumsum(list(widths.values()))[:-1]

    def norms(channels: Float[np.ndarray, " C"]) -> Float[np.ndarray, " C"]:
        return np.repeat([np.linalg.norm(part) for part in np.split(channels, ends)], list(widths.values()))

    spread, size = norms(targets.std), norms(np.sqrt(targets.mean_square))
    scales = np.where(spread > norms(targets.round_off), spread, size)
    return np.where(scales > 0, scales, 1.0)


def target_normalizer(targets: Moments, scales: Float[np.ndarray, " C"]) -> Normalizer:
    """Return the Gaussian normalizer of centred targets divided by `scales`."""
    return Normalizer(np.zeros_like(scales), _without_zeros(targets.std / scales, targets.round_off / scales))


def _without_zeros(scale: np.ndarray, round_off: np.ndarray) -> np.ndarray:
    """Return scales by which can be divided: 1 for channels that are constant up to rounding."""
    return np.where(scale > round_off, scale, 1.0)
