"""From the surface of a CAD model to the hexahedra that a part is simulated on."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from data_pipeline import vtk
from data_pipeline.additive.generate.layered import PLATE
from data_pipeline.additive.generate.octree import Voxels, build_mesh, cell_size
from data_pipeline.errors import DataError

BUILD_SIZE = 60.0  # mm, of the largest parts of the public set
_SLACK = 1.01


def mesh_of_surface(path: Path) -> tuple[Float[np.ndarray, "N 3"], Int[np.ndarray, "M 8"]]:
    """Return nodes in mm and hexahedra of the part within a closed surface, without the plate below it.

    The part stands centred on x = y = 0 at z = 0, whatever the place of the surface. Raises DataError for a surface
    that is open, or larger than the parts that are printed.
    """
    return part_of(voxelise(path))


def voxelise(path: Path) -> Voxels:
    """Return the cells whose centres lie within the closed surface of a file; raises DataError."""
    surface = vtk.read_mesh(path).extract_surface(algorithm="dataset_surface").triangulate().clean()
    if surface.n_cells == 0:
        raise DataError(f"{path} has no triangles; give the surface of a part")
    if surface.n_open_edges:
        raise DataError(
            f"{path} is an open surface, with {surface.n_open_edges} edges of one triangle, so that it has no inside; "
            "close it in a CAD or repair program"
        )
    low, high = (np.array(surface.bounds).reshape(3, 2)[:, side] for side in (0, 1))
    extent = high - low
    if extent.max() > _SLACK * BUILD_SIZE or extent.min() <= 0:
        sizes = " × ".join(f"{size:.4g}" for size in extent)
        raise DataError(
            f"{path} is {sizes} mm large, but parts have at most {BUILD_SIZE:g} mm in each direction; store the "
            "surface in mm"
        )
    cell = np.array(cell_size(*extent[:2]))
    shape = np.maximum(1, np.round(extent / cell).astype(int))
    filled = vtk.cells_within(surface, low + cell / 2, cell, shape)
    if not filled.any():
        raise DataError(f"{path} is thinner than the cells of {cell[2]:g} mm height; give a thicker part")
    return Voxels(filled, tuple(map(float, cell)))


def part_of(voxels: Voxels) -> tuple[Float[np.ndarray, "N 3"], Int[np.ndarray, "M 8"]]:
    """Return nodes in mm and hexahedra of a part alone, its nodes numbered in their order in the whole mesh."""
    body = build_mesh(voxels)
    elements = body.elements[body.group != PLATE]
    kept, numbers = np.unique(elements, return_inverse=True)
    return body.nodes[kept], numbers.reshape(-1, 8)
