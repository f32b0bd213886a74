"""Meshes of a part and its plate: boxes of the finest cells at surfaces, merged 2 x 2 x 2 again and again inside.

The part's finest cells are 0.6 mm high; in the plane the part's bounding box is cut into ceil(extent / 19.2 mm) base
cells of 32 cells each. A cell is merged with its neighbours where all cells around them are full and at most one level
finer, so that sizes of neighbours differ by a factor of 2 at most, and walls keep their finest cells. The plate, 25 mm
thick and wider than the part, grows coarser with the distance to it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from data_pipeline.additive.generate.layered import PLATE, Body
from data_pipeline.additive.lattice import CORNERS

LAYER = 0.6  # mm, height of an element layer: 20 powder layers of 30 µm
GROUP = 4  # element layers that are activated together
BASE = 32  # cells per base cell
PLATE_THICKNESS = 25.0  # mm
_PLATE_CELLS, _MARGIN = 40, 8  # cells of the plate's thickness, and around the part
_PART_LEVELS, _PLATE_LEVELS = 2, 3


@dataclass(frozen=True)
class Voxels:
    """The filled cells [X, Y, Z] of a part that stands on the plate, with cells of (dx, dy, dz) in mm."""

    filled: Bool[np.ndarray, "X Y Z"]
    cell: tuple[float, float, float]

    @property
    def groups(self) -> int:
        """The number of groups of layers."""
        height = int(np.flatnonzero(self.filled.any(axis=(0, 1))).max()) + 1
        return -(-height // GROUP)


def cell_size(extent_x: float, extent_y: float) -> tuple[float, float, float]:
    """Return the size of the finest cells of a part with this bounding box in mm."""
    sides = [extent / (BASE * np.ceil(extent / (BASE * LAYER))) for extent in (extent_x, extent_y)]
    return float(sides[0]), float(sides[1]), LAYER


def build_mesh(voxels: Voxels) -> Body:
    """Return the mesh of part and plate, centred on the plate, whose upper side is z = 0."""
    filled = voxels.filled
    margin = [(-(-size // _MARGIN) * _MARGIN - size) for size in filled.shape[:2]]
    height = -(-filled.shape[2] // GROUP) * GROUP
    around = [(_MARGIN, _MARGIN + margin[0]), (_MARGIN, _MARGIN + margin[1]), (0, height - filled.shape[2])]
    part = np.pad(filled, around)
    full = np.concatenate([np.ones((*part.shape[:2], _PLATE_CELLS), bool), part], axis=2)
    # Whole blocks of the coarsest level, in every direction.
    top = -full.shape[2] % 2**_PLATE_LEVELS
    full = np.pad(full, [(0, 0), (0, 0), (0, top)])
    origin, level = _cells(full)
    size = 2**level
    corners = origin[:, None] + CORNERS * size[:, None, None]
    codes = (corners[..., 0] * (full.shape[1] + 1) + corners[..., 1]) * (full.shape[2] + 1) + corners[..., 2]
    _, first, number = np.unique(codes.ravel(), return_index=True, return_inverse=True)
    places = corners.reshape(-1, 3)[first]
    layer = origin[:, 2] - _PLATE_CELLS
    group = np.where(layer < 0, PLATE, layer // GROUP)
    return Body(_coordinates(places, voxels), number.reshape(-1, 8), group)


def _coordinates(places: Int[np.ndarray, "N 3"], voxels: Voxels) -> np.ndarray:
    """Return the nodes in mm: the part's bounding box is centred on x = y = 0, the plate's cells are stretched in z."""
    dx, dy, dz = voxels.cell
    width, depth = voxels.filled.shape[:2]
    z = places[:, 2] - _PLATE_CELLS
    heights = np.where(z < 0, z * (PLATE_THICKNESS / _PLATE_CELLS), z * dz)
    return np.stack(
        [(places[:, 0] - _MARGIN - width / 2) * dx, (places[:, 1] - _MARGIN - depth / 2) * dy, heights], axis=-1
    )


def _cells(full: Bool[np.ndarray, "X Y Z"]) -> tuple[Int[np.ndarray, "M 3"], Int[np.ndarray, " M"]]:
    """Return origin and level of every element, sorted from below."""
    merged, air = [full], ~full
    for level in range(1, _PLATE_LEVELS + 1):
        finer = merged[-1]
        block = _blocks(finer)
        plate = np.zeros(block.shape, bool)
        plate[:, :, : _PLATE_CELLS >> level] = True
        # Around the plate nothing has to be fine but the part; around the part everything is a surface.
        mergeable = np.where(plate, block & _around(finer | air, True), block & _around(finer, False))
        merged.append(mergeable & (plate | (level <= _PART_LEVELS)))
        air = _blocks(air)
    origins, levels = [], []
    for level, there in enumerate(merged):
        if level < _PLATE_LEVELS:
            there = there & ~merged[level + 1].repeat(2, 0).repeat(2, 1).repeat(2, 2)
        cells = np.argwhere(there) << level
        origins.append(cells)
        levels.append(np.full(len(cells), level))
    origin, level = np.concatenate(origins), np.concatenate(levels)
    order = np.lexsort((origin[:, 0], origin[:, 1], origin[:, 2]))
    return origin[order], level[order]


def _blocks(cells: Bool[np.ndarray, "X Y Z"]) -> Bool[np.ndarray, "X Y Z"]:
    """Return which blocks of 2 x 2 x 2 have all their cells."""
    x, y, z = (size // 2 for size in cells.shape)
    return cells.reshape(x, 2, y, 2, z, 2).all(axis=(1, 3, 5))


def _around(cells: Bool[np.ndarray, "X Y Z"], outside: bool) -> Bool[np.ndarray, "X Y Z"]:
    """Return which blocks of 2 x 2 x 2 have all the cells in and around them; `outside` is beyond the lattice."""
    padded = np.pad(cells, 1, constant_values=outside)
    for axis in range(3):
        size = cells.shape[axis] // 2
        parts = [np.take(padded, np.arange(offset, offset + 2 * size, 2), axis) for offset in range(4)]
        padded = np.logical_and.reduce(parts)
    return padded
