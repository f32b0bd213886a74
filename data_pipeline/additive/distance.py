"""Features of a node by the surface of the part: nearest surface point, and distances along the axes to leave it.

On a lattice the nearest point of the surface to a node is a lattice point itself, since clamping the node to a boundary
rectangle gives ticks only; so one query of a KD-tree of the surface's lattice points is exact. Distances along the axes
are run lengths on the lattice.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from data_pipeline.additive.lattice import Lattice
from data_pipeline.additive.samples import SCALE

# Columns of `distance_features`, and how `normalized_features` divides all but the first.
COLUMNS = (
    "on_surface",
    "to_x",
    "to_y",
    "to_z",
    "distance",
    "minus_x",
    "minus_y",
    "minus_z",
    "plus_x",
    "plus_y",
    "plus_z",
)
_DIVISORS = np.concatenate([SCALE, [np.linalg.norm(SCALE)], SCALE, SCALE])


def distance_features(points: Float[np.ndarray, "N 3"], elements: Int[np.ndarray, "M 8"]) -> Float[np.ndarray, "N 11"]:
    """Return the features `COLUMNS` of every node, in mm.

    They are: 1 on the surface, else 0; the vector to the nearest point of the surface and its length; the lengths of
    the longest straight paths along -x, -y, -z, +x, +y, +z that stay in the closed solid. Raises DataError for elements
    that are not the boxes of a lattice.
    """
    lattice = Lattice.of(points, elements)
    covered = np.pad(lattice.covered(), 1)
    place = lattice.ticks_of(points)
    surface = np.argwhere(_on_surface(covered))
    there = np.stack([lattice.ticks[axis][surface[:, axis]] for axis in range(3)], axis=-1)
    here = np.stack([lattice.ticks[axis][place[:, axis]] for axis in range(3)], axis=-1)
    distance, nearest = cKDTree(there).query(here)
    ways = [_path_lengths(covered, lattice.ticks[axis], axis) for axis in range(3)]
    at = tuple(place.T)
    along = [way[at] for way, _ in ways] + [way[at] for _, way in ways]
    return np.column_stack([distance == 0, there[nearest] - here, distance, *along]).astype(np.float64)


def normalized_features(features: Float[np.ndarray, "N 11"]) -> Float[np.ndarray, "N 10"]:
    """Return the features without the flag, divided by the size of the build volume."""
    return features[:, 1:] / _DIVISORS


def _corners(covered: Bool[np.ndarray, "X Y Z"]) -> list[np.ndarray]:
    """Return, for the eight cells around every lattice point, which are covered; `covered` has an empty margin."""
    x, y, z = (size - 1 for size in covered.shape)
    return [covered[i : i + x, j : j + y, k : k + z] for i in (0, 1) for j in (0, 1) for k in (0, 1)]


def _on_surface(covered: Bool[np.ndarray, "X Y Z"]) -> Bool[np.ndarray, "X Y Z"]:
    around = _corners(covered)
    return np.any(around, axis=0) & ~np.all(around, axis=0)


def _path_lengths(
    covered: Bool[np.ndarray, "X Y Z"], ticks: Float[np.ndarray, " X"], axis: int
) -> tuple[Float[np.ndarray, "X Y Z"], Float[np.ndarray, "X Y Z"]]:
    """Return how far one can go from every lattice point against and along an axis without leaving the solid."""
    cells = np.moveaxis(covered, axis, 0)[1:-1]
    # The step between two ticks stays in the closed solid where any of the four cells around it is full.
    inside = cells[:, 1:, 1:] | cells[:, 1:, :-1] | cells[:, :-1, 1:] | cells[:, :-1, :-1]
    back = np.zeros((len(ticks), *inside.shape[1:]))
    forward = np.zeros_like(back)
    for number, size in enumerate(np.diff(ticks)):
        back[number + 1] = np.where(inside[number], back[number] + size, 0.0)
        last = len(ticks) - 2 - number
        forward[last] = np.where(inside[last], forward[last + 1] + ticks[last + 1] - ticks[last], 0.0)
    return np.moveaxis(back, 0, axis), np.moveaxis(forward, 0, axis)
