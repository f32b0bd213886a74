"""What the loaders of data on structured grids share."""

import numpy as np
from jaxtyping import Float

from data_pipeline.normalizer import Normalizer


def grid_points(height: int, width: int) -> Float[np.ndarray, "N 2"]:
    """Return the nodes of a height × width grid on the unit square, [height · width, 2], last axis fastest.

    Coordinate 0 varies along the last array axis (columns) and coordinate 1 along the first (rows), as x and y of a
    picture do; this is also the order in which the original gives the coordinates of Darcy and Navier–Stokes.
    """
    rows, columns = np.linspace(0, 1, height, dtype=np.float32), np.linspace(0, 1, width, dtype=np.float32)
    return np.stack(np.meshgrid(columns, rows, indexing="xy"), axis=-1).reshape(-1, 2)


def beside_coordinates(coordinates: int, features: Normalizer) -> Normalizer:
    """Return the normalizer of channels (coordinates, features) that leaves the coordinates as they are."""
    same = Normalizer.identity(coordinates)
    return Normalizer(np.concatenate([same.mean, features.mean]), np.concatenate([same.std, features.std]))


def flat(field: np.ndarray) -> Float[np.ndarray, "S N 1"]:
    """Return a scalar field on a grid, [S, height, width], as [S, N, 1]."""
    return field.reshape(len(field), -1, 1)
