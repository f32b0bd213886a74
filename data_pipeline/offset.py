"""The part of targets that float32 has no digits for: a mean far larger than the spread about it."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from data_pipeline.normalizer import Normalizer
from data_pipeline.split import Split

# Means of so many standard deviations; float32 keeps 20 bits of the spread about a smaller one.
LARGE = 16.0


def large_offset(train: Split) -> Float[np.ndarray, " C"]:
    """Return the mean of every target channel over real points (and frames) where it is large, elsewhere 0."""
    if not isinstance(train.y, np.ndarray):  # what is streamed was centred by its loader
        return np.zeros(train.y.shape[-1])
    parts = (train.y[case][train.real(case)] for case in range(len(train)))
    statistics = Normalizer.fit_parts(parts)
    return np.where(np.abs(statistics.mean) > LARGE * statistics.std, statistics.mean, 0.0)


def without_offset(split: Split, offset: Float[np.ndarray, " C"], frames_given: bool) -> Split:
    """Return a split with targets less `offset`; with `frames_given` its features are frames of the same channels."""
    features = split.fx
    if frames_given and features is not None:
        features = features - np.tile(offset, features.shape[-1] // len(offset))
    return replace(split, y=split.y - offset, fx=features)


def as_float32(split: Split) -> Split:
    """Return a split whose arrays of float64 are cut to float32."""
    wide = {name: array for name, array in split.arrays().items() if array.dtype == np.float64}
    return replace(split, **{name: array.astype(np.float32) for name, array in wide.items()}) if wide else split
