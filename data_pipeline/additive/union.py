"""One mesh for all steps of a series: the finest elements that occur at any step, in O(E log E)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from data_pipeline.additive.lattice import CORNERS, Lattice, merged_ticks

Mesh = tuple[Float[np.ndarray, "N 3"], Int[np.ndarray, "M 8"]]
_TOLERANCE = 1e-3  # of the shortest edge of all meshes


def union(meshes: Sequence[Mesh]) -> Mesh:
    """Return nodes (sorted by x, y, z) and elements that cover what any of the meshes covers, each place once.

    Of elements on top of each other the smallest stays; one that smaller ones cover in part is halved until its parts
    are covered whole or not at all. Raises DataError for meshes that are not boxes of one lattice.
    """
    ticks = common_ticks(meshes)
    lattices = [Lattice.of(points, elements, ticks) for points, elements in meshes]
    limits = np.concatenate([np.concatenate([one.low, one.high], axis=1) for one in lattices])
    limits = np.unique(limits, axis=0)
    together = Lattice(ticks, limits[:, :3], limits[:, 3:])
    owner = together.raster()
    owned = np.bincount(owner[owner >= 0], minlength=len(limits))
    whole = owned == together.volumes
    kept = [limits[whole]]
    for number in np.flatnonzero((owned > 0) & ~whole):
        kept.append(np.array(_halved(owner, number, limits[number], ticks)).reshape(-1, 6))
    return _mesh(np.concatenate(kept), together)


def common_ticks(meshes: Sequence[Mesh]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the coordinates along x, y and z at which the elements of any mesh end."""
    corners = [np.asarray(points, np.float64)[np.asarray(elements)] for points, elements in meshes]
    shortest = min((one.max(axis=1) - one.min(axis=1)).min() for one in corners)
    every = np.concatenate([one.reshape(-1, 3) for one in corners])
    return tuple(merged_ticks(every[:, axis], _TOLERANCE * shortest) for axis in range(3))


def _halved(owner: np.ndarray, number: int, limits: np.ndarray, ticks: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    """Return the boxes, halves of halves of an element, in which nothing smaller lies."""
    low, high = limits[:3], limits[3:]
    mine = owner[low[0] : high[0], low[1] : high[1], low[2] : high[2]] == number
    if mine.all():
        return [limits]
    if not mine.any():
        return []
    cuts = [_cuts(ticks[axis], low[axis], high[axis]) for axis in range(3)]
    parts = []
    for i in range(len(cuts[0]) - 1):
        for j in range(len(cuts[1]) - 1):
            for k in range(len(cuts[2]) - 1):
                lower = [cuts[0][i], cuts[1][j], cuts[2][k]]
                upper = [cuts[0][i + 1], cuts[1][j + 1], cuts[2][k + 1]]
                parts += _halved(owner, number, np.array(lower + upper), ticks)
    return parts


def _cuts(ticks: np.ndarray, low: int, high: int) -> list[int]:
    """Return the ends of an interval and the tick nearest to its middle, where there is one between them."""
    if high - low < 2:
        return [low, high]
    middle = 0.5 * (ticks[low] + ticks[high])
    return [low, low + 1 + int(np.argmin(np.abs(ticks[low + 1 : high] - middle))), high]


def _mesh(limits: np.ndarray, lattice: Lattice) -> Mesh:
    low, high = limits[:, None, :3], limits[:, None, 3:]
    corners = low + CORNERS * (high - low)
    _, first, number = np.unique(lattice.code(corners).ravel(), return_index=True, return_inverse=True)
    places = corners.reshape(-1, 3)[first]
    points = np.stack([lattice.ticks[axis][places[:, axis]] for axis in range(3)], axis=-1)
    elements = number.reshape(-1, 8)
    return points, elements[np.lexsort(elements.T[::-1])]
