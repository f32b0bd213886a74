"""The regions of a sample's mesh that integrals are over: its cells and marks, and the weights of its values there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from data_pipeline import vtk, vtk_faces
from data_pipeline.custom.cell_integrals import CellRegions, Mark
from data_pipeline.custom.integrals import CellsByType, Integral, Weights, linear_cells, region_weights
from data_pipeline.custom.sample import Contents, Sample
from data_pipeline.errors import DataError

if TYPE_CHECKING:
    from pyvista import DataSet


@dataclass(frozen=True)
class PointRegions:
    """Points [N, D] of a sample, its cells, and by its name every mark [N] of `wanted`; `where` is for messages."""

    wanted: Sequence[Integral]
    points: Float[np.ndarray, "N D"]
    cells: CellsByType
    marks: Mapping[str, Bool[np.ndarray, " N"]]
    where: str

    def weights(self, shift: Float[np.ndarray, "N D"] | float = 0.0) -> tuple[Weights, ...]:
        """Return the weights of every integral where the points have moved by `shift`; raises DataError."""
        points = self.points + shift
        return tuple(region_weights(one, points, self.cells, self.marks[one.mark], self.where) for one in self.wanted)


# Of fields at the points of a mesh, or at the centres of its cells.
Regions = PointRegions | CellRegions


def regions_of(wanted: Sequence[Integral], sample: Sample, contents: Contents, where: str) -> Regions:
    """Return the regions of a sample; raises DataError where its mesh or a mark is not there."""
    if contents.at_centres:
        return _at_centres(wanted, contents, where)
    cells = linear_cells(dict(sample.cells) if contents.mesh is None else vtk.mesh_cells(contents.mesh))
    marks = {one.mark: _marked(one, contents.arrays.get(one.mark), len(sample), where) for one in wanted}
    return PointRegions(wanted, np.asarray(sample.points, np.float64), cells, marks, where)


def _at_centres(wanted: Sequence[Integral], contents: Contents, where: str) -> CellRegions:
    mesh = contents.mesh
    marks = {one.mark: _mark_of_cells(one, mesh, where) for one in wanted}
    return CellRegions(wanted, np.asarray(mesh.points, np.float64), vtk_faces.main_cells_of(mesh), marks, where)


def _mark_of_cells(integral: Integral, mesh: "DataSet", where: str) -> Mark:
    """Return the main cells that a field marks, or else points: those of a field, or of marked cells of a boundary."""
    main, name = vtk.main_cells(mesh), integral.mark
    no_points = np.zeros(mesh.n_points, bool)
    if not name:
        return Mark(main[main], no_points)
    if name in mesh.cell_data:
        cells = _marked(integral, mesh.cell_data[name], mesh.n_cells, where)
        if cells[main].any():
            return Mark(cells[main], no_points)
        if name not in mesh.point_data:
            points = no_points.copy()
            points[vtk_faces.points_of_cells(mesh, cells)] = True
            return Mark(cells[main], points)
    return Mark(~main[main], _marked(integral, mesh.point_data.get(name), mesh.n_points, where))


def _marked(integral: Integral, array: np.ndarray | None, count: int, where: str) -> Bool[np.ndarray, " N"]:
    if not integral.mark:
        return np.ones(count, bool)
    if array is None or np.size(array) != count or np.asarray(array).dtype.kind not in "fbiu":
        found = "is not there" if array is None else f"has the shape {np.shape(array)}"
        raise DataError(
            f"{where} marks the region of {integral.name!r} by {integral.mark!r}, which {found}; name a field with one "
            f"number for each of its {count} points"
        )
    return np.asarray(array).reshape(-1) != 0
