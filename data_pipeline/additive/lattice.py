"""Meshes of axis-parallel boxes as integers: the coordinates that occur along each axis are its ticks.

Everything about overlap and neighbourhood of such elements is then exact: an element is a box of ticks, and a raster
of the cells between neighbouring ticks says which element covers what.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from data_pipeline.errors import DataError

# Corners of a hexahedron in VTK's order, in units of its size.
CORNERS = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]])
# Coordinates that differ by less than this part of the shortest edge are one tick.
_TOLERANCE = 1e-3
_MOST_CELLS = 2 * 10**8  # of a raster; the build volume has 128 x 128 x 142


@dataclass(frozen=True)
class Lattice:
    """Elements as boxes [low, high] of `ticks`, the sorted coordinates along x, y and z, in mm."""

    ticks: tuple[np.ndarray, np.ndarray, np.ndarray]
    low: Int[np.ndarray, "M 3"]
    high: Int[np.ndarray, "M 3"]

    @classmethod
    def of(
        cls,
        points: Float[np.ndarray, "N 3"],
        elements: Int[np.ndarray, "M 8"],
        ticks: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    ) -> "Lattice":
        """Return the lattice of a mesh, on given ticks where there are some; raises DataError where it has none."""
        if not len(elements):
            raise DataError("the mesh has no elements; give hexahedra")
        corners = np.asarray(points, np.float64)[np.asarray(elements)]
        sizes = corners.max(axis=1) - corners.min(axis=1)
        tolerance = _TOLERANCE * sizes.min()
        expected = corners.min(axis=1)[:, None] + CORNERS * sizes[:, None]
        bad = np.abs(corners - expected).max(axis=(1, 2)) > max(tolerance, 1e-9)
        if bad.any() or tolerance <= 0:
            raise DataError(
                f"element {int(np.argmax(bad))} is no box along the axes with its corners in VTK's order, and "
                f"{int(bad.sum())} of {len(elements)} are not; voxelise the part, or give the solver's mesh"
            )
        if ticks is None:
            ticks = tuple(merged_ticks(corners[..., axis].ravel(), tolerance) for axis in range(3))
        low, high = (snap(ticks, limit, tolerance) for limit in (corners.min(axis=1), corners.max(axis=1)))
        return cls(ticks, low, high)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The number of cells between ticks along each axis."""
        return tuple(max(len(ticks) - 1, 1) for ticks in self.ticks)

    @property
    def volumes(self) -> Int[np.ndarray, " M"]:
        """The number of cells of the raster in every element."""
        return (self.high - self.low).prod(axis=1)

    def ticks_of(self, points: Float[np.ndarray, "N 3"]) -> Int[np.ndarray, "N 3"]:
        """Return the nearest tick of every coordinate."""
        return np.stack([_nearest(self.ticks[axis], np.asarray(points)[:, axis]) for axis in range(3)], axis=-1)

    def code(self, ticks: Int[np.ndarray, "*S 3"]) -> Int[np.ndarray, "*S"]:
        """Return one integer for each triple of ticks, which orders them by x, then y, then z."""
        return (ticks[..., 0] * len(self.ticks[1]) + ticks[..., 1]) * len(self.ticks[2]) + ticks[..., 2]

    def spans(self) -> Int[np.ndarray, "S 3"]:
        """Return the sizes of elements that occur, in ticks."""
        return np.unique(self.high - self.low, axis=0)

    def with_span(self, span: Int[np.ndarray, " 3"]) -> Int[np.ndarray, " M"]:
        """Return the numbers of the elements of one size."""
        return np.flatnonzero((self.high - self.low == span).all(axis=1))

    def raster(self) -> Int[np.ndarray, "X Y Z"]:
        """Return the number of the smallest element that covers each cell between ticks, -1 where there is none."""
        if np.prod(self.shape, dtype=np.int64) > _MOST_CELLS:
            raise DataError(
                f"the coordinates of the mesh make a lattice of {' x '.join(map(str, self.shape))} cells, more than "
                f"{_MOST_CELLS}: its elements do not fit one lattice; give a mesh of equal or halved boxes"
            )
        owner = np.full(self.shape, -1, np.int64)
        spans = self.spans()
        # The smallest come last and stay.
        for span in spans[np.argsort(-spans.prod(axis=1), kind="stable")]:
            members = self.with_span(span)
            for step in np.ndindex(*span):
                cell = self.low[members] + np.array(step)
                owner[cell[:, 0], cell[:, 1], cell[:, 2]] = members
        return owner

    def covered(self) -> Bool[np.ndarray, "X Y Z"]:
        """Return which cells between ticks lie in an element."""
        return self.raster() >= 0


def merged_ticks(coordinates: Float[np.ndarray, " N"], tolerance: float) -> Float[np.ndarray, " X"]:
    """Return sorted coordinates without those that differ by at most `tolerance` from the one before."""
    values = np.unique(coordinates)
    first = np.concatenate([[True], np.diff(values) > tolerance])
    return values[first]


def snap(
    ticks: tuple[np.ndarray, np.ndarray, np.ndarray], points: Float[np.ndarray, "N 3"], tolerance: float
) -> Int[np.ndarray, "N 3"]:
    """Return the tick of every coordinate; raises DataError where one is further than `tolerance` from all ticks."""
    found = np.stack([_nearest(ticks[axis], points[:, axis]) for axis in range(3)], axis=-1)
    off = max(float(np.abs(ticks[axis][found[:, axis]] - points[:, axis]).max()) for axis in range(3))
    if off > 2 * tolerance:
        raise DataError(
            f"a coordinate lies {off:.2g} mm beside the lattice of the mesh; the meshes do not fit together"
        )
    return found


def _nearest(ticks: np.ndarray, values: np.ndarray) -> np.ndarray:
    right = np.clip(np.searchsorted(ticks, values), 1, max(len(ticks) - 1, 1))
    left = right - 1
    return np.where(
        np.abs(values - ticks[left]) <= np.abs(values - ticks[np.minimum(right, len(ticks) - 1)]), left, right
    )
