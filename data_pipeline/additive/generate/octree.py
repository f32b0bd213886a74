"""Meshes of a part and its plate: boxes of the finest cells at surfaces, merged 2 x 2 x 2 again and again inside.

The part's finest cells are 0.6 mm high (or 1.2, 2.4 mm); in the plane the part's bounding box is cut into
ceil(extent / 19.2 mm) base cells of 32 (16, 8) cells each. A cell is merged with its neighbours where all cells around
them are full and at most one level finer, so that sizes of neighbours differ by a factor of 2 at most, and walls keep
their finest cells. The plate, 25 mm thick and wider than the part, grows coarser with the distance to it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from data_pipeline.additive.generate.layered import PLATE, Body
from data_pipeline.additive.lattice import CORNERS
from data_pipeline.errors import DataError

LAYER = 0.6  # mm, height of the finest element layer: 20 powder layers of 30 µm
GROUP_HEIGHT = 2.4  # mm, of the layers that are activated together
PLATE_THICKNESS = 25.0  # mm
_BASE = 19.2  # mm, largest base cell
RESOLUTIONS = (25, 50, 100)  # element layers in 60 mm


@dataclass(frozen=True)
class Resolution:
    """How fine the cells are: element layers in 60 mm, 100 as in the public set, 50 or 25; raises DataError."""

    layers: int = 100

    def __post_init__(self) -> None:
        if self.layers not in RESOLUTIONS:
            raise DataError(
                f"resolution={self.layers} must be one of {', '.join(map(str, RESOLUTIONS))} layers in 60 mm"
            )

    @property
    def height(self) -> float:
        """The height of the finest cells in mm."""
        return 60.0 / self.layers

    @property
    def layers_per_group(self) -> int:
        """How many element layers are activated together."""
        return round(GROUP_HEIGHT / self.height)

    @property
    def part_levels(self) -> int:
        """How often cells of the part are merged; a whole group at most."""
        return self.layers_per_group.bit_length() - 1

    @property
    def plate_levels(self) -> int:
        """How often cells of the plate are merged."""
        return self.part_levels + 1

    @property
    def margin(self) -> int:
        """How many of the finest cells the plate is wider than the part on each side: one of its largest."""
        return 2**self.plate_levels

    @property
    def plate_cells(self) -> int:
        """How many of the finest cells the plate is thick."""
        return 5 * self.margin


FINEST = Resolution()


@dataclass(frozen=True)
class Voxels:
    """The filled cells [X, Y, Z] of a part that stands on the plate, with cells of (dx, dy, dz) in mm."""

    filled: Bool[np.ndarray, "X Y Z"]
    cell: tuple[float, float, float]


def cell_size(extent_x: float, extent_y: float, resolution: Resolution = FINEST) -> tuple[float, float, float]:
    """Return the size of the finest cells of a part with this bounding box in mm."""
    cells = round(_BASE / resolution.height)
    sides = [extent / (cells * np.ceil(extent / _BASE - 1e-9)) for extent in (extent_x, extent_y)]
    return float(sides[0]), float(sides[1]), resolution.height


def build_mesh(voxels: Voxels, resolution: Resolution = FINEST) -> Body:
    """Return the mesh of part and plate, centred on the plate, whose upper side is z = 0."""
    filled, margin, group = voxels.filled, resolution.margin, resolution.layers_per_group
    # Whole blocks of the coarsest level in every direction.
    extra = [-size % margin for size in filled.shape[:2]]
    part = np.pad(filled, [(margin, margin + extra[0]), (margin, margin + extra[1]), (0, -filled.shape[2] % margin)])
    full = np.concatenate([np.ones((*part.shape[:2], resolution.plate_cells), bool), part], axis=2)
    origin, level = _cells(full, resolution)
    corners = origin[:, None] + CORNERS * (2**level)[:, None, None]
    codes = (corners[..., 0] * (full.shape[1] + 1) + corners[..., 1]) * (full.shape[2] + 1) + corners[..., 2]
    _, first, number = np.unique(codes.ravel(), return_index=True, return_inverse=True)
    places = corners.reshape(-1, 3)[first]
    layer = origin[:, 2] - resolution.plate_cells
    return Body(
        _coordinates(places, voxels, resolution), number.reshape(-1, 8), np.where(layer < 0, PLATE, layer // group)
    )


def _coordinates(places: Int[np.ndarray, "N 3"], voxels: Voxels, resolution: Resolution) -> np.ndarray:
    """Return the nodes in mm: the part's bounding box is centred on x = y = 0, the plate's cells are stretched in z."""
    width, depth = voxels.filled.shape[:2]
    z = places[:, 2] - resolution.plate_cells
    heights = z * np.where(z < 0, PLATE_THICKNESS / resolution.plate_cells, voxels.cell[2])
    sides = [(places[:, d] - resolution.margin - size / 2) * voxels.cell[d] for d, size in enumerate((width, depth))]
    return np.stack([*sides, heights], axis=-1)


def _cells(
    full: Bool[np.ndarray, "X Y Z"], resolution: Resolution
) -> tuple[Int[np.ndarray, "M 3"], Int[np.ndarray, " M"]]:
    """Return origin and level of every element, sorted from below."""
    merged, air = [full], ~full
    for level in range(1, resolution.plate_levels + 1):
        finer = merged[-1]
        block = _blocks(finer)
        plate = np.zeros(block.shape, bool)
        plate[:, :, : resolution.plate_cells >> level] = True
        # Around the plate nothing has to be fine but the part; around the part everything is a surface.
        mergeable = np.where(plate, block & _around(finer | air, True), block & _around(finer, False))
        merged.append(mergeable & (plate | (level <= resolution.part_levels)))
        air = _blocks(air)
    origins, levels = [], []
    for level, there in enumerate(merged):
        if level < resolution.plate_levels:
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
