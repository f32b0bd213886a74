"""The cells of a mesh as a finite-volume program sees them: their sizes, and polygons around them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from data_pipeline.vtk import cell_centres, main_cells
from data_pipeline.vtk_checks import need_pyvista

if TYPE_CHECKING:
    from pyvista import DataSet


@dataclass(frozen=True)
class Polygons:
    """Polygons, or cells, with corners `points[offsets[k] : offsets[k + 1]]`, numbers of the mesh's points.

    `owners` are the cells that they belong to.
    """

    points: Int[np.ndarray, " _"]
    offsets: Int[np.ndarray, " _"]
    owners: Int[np.ndarray, " K"]

    def all_of(self, mark: Bool[np.ndarray, " N"]) -> Bool[np.ndarray, " K"]:
        """Return the polygons all corners of which are marked."""
        return np.logical_and.reduceat(mark[self.points], self.offsets[:-1]) if len(self.owners) else mark[:0]

    def centres(self, places: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "K 3"]:
        """Return the means of the corners, which are at `places`."""
        return np.add.reduceat(places[self.points], self.offsets[:-1]) / np.diff(self.offsets)[:, None]

    def area_vectors(self, places: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "K 3"]:
        """Return normals as long as the polygons are large."""
        corners = places[self.points] - np.repeat(places[self.points[self.offsets[:-1]]], np.diff(self.offsets), axis=0)
        return np.add.reduceat(np.cross(corners, corners[self._next()]), self.offsets[:-1]) / 2

    def edges(self) -> tuple[Int[np.ndarray, "_ 2"], Int[np.ndarray, " _"]]:
        """Return the edges of all polygons by their ends, and the cells that these belong to."""
        return np.stack([self.points, self.points[self._next()]], axis=1), np.repeat(self.owners, np.diff(self.offsets))

    def _next(self) -> Int[np.ndarray, " _"]:
        following = np.arange(1, len(self.points) + 1)
        following[self.offsets[1:] - 1] = self.offsets[:-1]
        return following


@dataclass(frozen=True)
class MainCells:
    """The cells of the highest dimension in a mesh, by their order there.

    `sizes` [F] are lengths, areas or volumes; `corners` are their points. `faces` are the polygons of volumes that no
    other cell has, or the flat cells themselves. Of quadratic cells only the corners count.
    """

    dimension: int
    sizes: Float[np.ndarray, " F"]
    centres: Float[np.ndarray, "F 3"]
    corners: Polygons
    faces: Polygons


def main_cells_of(mesh: "DataSet") -> MainCells:
    """Return the main cells of a mesh."""
    pyvista = need_pyvista("")
    whole = mesh.cast_to_unstructured_grid()
    whole.clear_data()
    chosen = main_cells(whole)
    dimension = pyvista.CellType(int(whole.celltypes[chosen][0])).dimension
    grid = whole.extract_cells(chosen, pass_point_ids=True)
    numbers = np.asarray(grid.point_data["vtkOriginalPointIds"], int)
    grid.clear_data()
    measures = {1: "Length", 2: "Area", 3: "Volume"}
    sizes = np.ones(grid.n_cells)
    if dimension:
        wanted = {name.lower(): number == dimension for number, name in measures.items()}
        sizes = np.abs(np.asarray(grid.compute_cell_sizes(**wanted).cell_data[measures[dimension]], np.float64))
    options = {"nonlinear_subdivision": 0, "pass_pointid": True, "pass_cellid": True, "algorithm": "dataset_surface"}
    surface = grid.extract_surface(**options)
    faces = Polygons(np.zeros(0, int), np.zeros(1, int), np.zeros(0, int))
    if surface.n_cells and dimension > 1:
        points = numbers[np.asarray(surface.point_data["vtkOriginalPointIds"], int)]
        owners = np.asarray(surface.cell_data["vtkOriginalCellIds"], int)
        faces = _polygons(surface.GetPolys(), points, owners)
    corners = _polygons(grid.GetCells(), numbers, np.arange(grid.n_cells))
    return MainCells(dimension, sizes, cell_centres(grid).astype(np.float64), corners, faces)


def _polygons(cells: Any, numbers: Int[np.ndarray, " _"], owners: Int[np.ndarray, " K"]) -> Polygons:
    """Return cells of VTK, whose points have these numbers."""
    points, offsets = map(need_pyvista("").convert_array, (cells.GetConnectivityArray(), cells.GetOffsetsArray()))
    return Polygons(numbers[np.asarray(points, int)], np.asarray(offsets, int), owners)


def points_of_cells(mesh: "DataSet", chosen: Bool[np.ndarray, " F"]) -> Int[np.ndarray, " _"]:
    """Return the numbers of the points of some cells of a mesh."""
    if not chosen.any():
        return np.zeros(0, int)
    part = mesh.cast_to_unstructured_grid().extract_cells(chosen, pass_point_ids=True)
    return np.asarray(part.point_data["vtkOriginalPointIds"], int)
