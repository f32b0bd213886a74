"""Steps in time within one mesh file: XDMF, MED and Gmsh's, which meshio reads, and where VTK's readers tell times."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_pipeline import foreign_meshes, mesh_sets
from data_pipeline.errors import DataError
from data_pipeline.vtk_checks import check_links, vtk_errors

if TYPE_CHECKING:
    from pyvista import DataObject

# Formats of VTK's readers that may hold several steps.
SUFFIXES = (".e", ".exo", ".ex2", ".cgns", ".vtkhdf")
_HEAD_BYTES = 1 << 20


def read(path: Path, step: int | None) -> "DataObject":
    """Return the content of a file at a step, counted from 0, or at the first; points are where the file has them."""
    import pyvista

    reader, times = _opened(path)
    if times:
        reader.UpdateTimeStep(times[step or 0])
    else:
        reader.Update()
    return mesh_sets.with_sets(path, pyvista.wrap(reader.GetOutputDataObject(0)))


def is_temporal(path: Path) -> bool:
    """Return whether a file holds several steps in time; one that cannot be read says why when it is."""
    if path.suffix.lower() in foreign_meshes.WRITTEN_SUFFIXES:
        with path.open(errors="replace") as file:
            return re.search(r"CollectionType\s*=\s*[\"']Temporal", file.read(_HEAD_BYTES)) is not None
    try:
        return path.suffix.lower() in (*SUFFIXES, *foreign_meshes.STEPPED_SUFFIXES) and len(times_of(path)) > 1
    except DataError:
        return False


def times_of(path: Path) -> list[float]:
    """Return the times of the steps in a file of these formats, none where it has no time; raises DataError."""
    if path.suffix.lower() in foreign_meshes.STEPPED_SUFFIXES:
        return foreign_meshes.times_of(path)
    with vtk_errors(path, "read as a mesh", "get the file again"):
        check_links(path)
        return _opened(path)[1]


def _opened(path: Path) -> tuple[Any, list[float]]:
    """Return VTK's reader of a file, which takes all arrays, and the times."""
    import pyvista
    from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as Pipeline

    chosen = pyvista.get_reader(path)
    if isinstance(chosen, pyvista.ExodusIIReader):
        # VTK would move the points by the field of displacements, if there is one, which may be what is predicted.
        chosen.reader.SetApplyDisplacements(False)
        chosen.reader.SetAnimateModeShapes(False)
        mesh_sets.ask_for_sets(chosen)
    if isinstance(chosen, pyvista.CGNSReader):
        # As further zones VTK would give the points of some boundary conditions twice.
        chosen.load_boundary_patch = False
    chosen.reader.UpdateInformation()
    facts = chosen.reader.GetOutputInformation(0)
    return chosen.reader, list(facts.Get(Pipeline.TIME_STEPS())) if facts.Has(Pipeline.TIME_STEPS()) else []
