"""What a model is told of a node of a part: its place, and if wanted its distances to the surface."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from data_pipeline.additive.distance import COLUMNS, distance_features, normalized_features
from data_pipeline.additive.samples import SCALE
from data_pipeline.errors import DataError
from data_pipeline.normalizer import Normalizer

# The name of the distances among the inputs of a model.
DISTANCES = "distance_features"


def node_inputs(
    points: Float[np.ndarray, "N 3"], elements: Int[np.ndarray, "M 8"], distances: bool, where: str
) -> Float[np.ndarray, "N C_in"]:
    """Return places / (30, 30, 60) mm, with `distances` the ten scaled distance features behind them.

    Raises DataError, naming `where`, for elements that are not the boxes of a lattice.
    """
    return np.concatenate([points / SCALE, *([scaled_distances(points, elements, where)] if distances else [])], axis=1)


def scaled_distances(
    points: Float[np.ndarray, "N 3"], elements: Int[np.ndarray, "M 8"], where: str
) -> Float[np.ndarray, "N 10"]:
    """Return the distance features of every node without the flag, in units of the build volume."""
    try:
        return normalized_features(distance_features(points, elements))
    except DataError as error:
        raise DataError(f"{where}: its distance features cannot be computed ({error})") from error


def input_normalizer(distances: bool) -> Normalizer:
    """Return the normalizer whose encoded inputs are those of `node_inputs`."""
    count = len(COLUMNS) - 1 if distances else 0
    return Normalizer(np.zeros(3 + count), np.concatenate([SCALE, np.ones(count)]))


def input_channels(distances: bool) -> Mapping[str, int]:
    """Return the inputs beside the places with their numbers of channels."""
    return {DISTANCES: len(COLUMNS) - 1} if distances else {}
