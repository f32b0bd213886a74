"""The regions of a sample's mesh that integrals are over: its cells and marks, and the weights of its points there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from data_pipeline import vtk
from data_pipeline.custom.integrals import CellsByType, Integral, Weights, region_weights
from data_pipeline.custom.sample import Contents, Sample
from data_pipeline.errors import DataError


@dataclass(frozen=True)
class Regions:
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


def regions_of(wanted: Sequence[Integral], sample: Sample, contents: Contents, where: str) -> Regions:
    """Return the regions of a sample; raises DataError where its mesh or a mark is not there."""
    if contents.at_centres:
        raise DataError(
            f"{where} has its fields at the centres of cells, and integrals need them at the nodes; set "
            "data.cell_data=nodes, or leave data.integrals out"
        )
    cells: dict[str, np.ndarray] = dict(sample.cells)
    if contents.mesh is not None:
        cells = vtk.mesh_cells(contents.mesh)
    marks = {one.mark: _marked(one, contents, len(sample), where) for one in wanted}
    return Regions(wanted, np.asarray(sample.points, np.float64), cells, marks, where)


def _marked(integral: Integral, contents: Contents, count: int, where: str) -> Bool[np.ndarray, " N"]:
    if not integral.mark:
        return np.ones(count, bool)
    array = contents.arrays.get(integral.mark)
    if array is None or array.size != count or array.dtype.kind not in "fbiu":
        found = "is not there" if array is None else f"has the shape {array.shape}"
        raise DataError(
            f"{where} marks the region of {integral.name!r} by {integral.mark!r}, which {found}; name a field with one "
            f"number for each of its {count} points"
        )
    return array.reshape(-1) != 0
