"""Meshes in the formats of other programs than VTK; the one place that imports meshio."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipeline import gmsh_steps, med
from data_pipeline.errors import DataError
from data_pipeline.xdmf import check_data_files

if TYPE_CHECKING:
    from meshio import Mesh
    from pyvista import DataSet

SUFFIXES = (
    *(".xdmf", ".xmf", ".msh", ".inp", ".med", ".stl", ".ply", ".obj", ".off", ".mesh", ".meshb", ".su2", ".vol"),
    *(".bdf", ".nas", ".fem", ".avs", ".ugrid", ".mdpa", ".f3grid", ".h5m", ".hmf", ".tec"),
)
# The one of these in which fields are written: the others hold none, or only as their own program names them.
WRITTEN_SUFFIXES = (".xdmf", ".xmf")
# Those that may hold several steps in time.
STEPPED_SUFFIXES = (*WRITTEN_SUFFIXES, ".med", ".msh")


def read(path: Path) -> "DataSet":
    """Return the mesh in a file; its groups and sets of nodes are fields of 0 and 1. Raises DataError."""
    meshio = _meshio(path)
    import pyvista

    if path.suffix.lower() in WRITTEN_SUFFIXES:
        check_data_files(path)
    content = med.complete_file(path) if path.suffix.lower() == ".med" else str(path)
    reason: BaseException | None = None
    # meshio.read would print why a format does not fit and end the program.
    for kind in meshio.extension_to_filetypes.get(path.suffix.lower(), ()):
        try:
            # What meshio leaves out it prints.
            with redirect_stderr(StringIO()), redirect_stdout(StringIO()), _cells_counted(meshio):
                mesh = getattr(meshio, kind.replace("-", "_")).read(content)
            _name_markers(path, mesh)
            return pyvista.from_meshio(_with_markers(_complete(mesh)))
        except meshio.ReadError as error:
            reason = error
        # Parsers raise what they meet in damaged files.
        except (Exception, SystemExit) as error:
            reason = error
            break
    raise DataError(
        f"{path} cannot be read as a mesh{bracketed(reason)}; get the file again, or save it in another format, as .vtu"
    ) from reason


def _name_markers(path: Path, mesh: "Mesh") -> None:
    """Add the markers of SU2 as sets of cells: meshio numbers them in their order, unless they are numbers.

    The cells within, which are no marker's, have a number too.
    """
    if "su2:tag" not in mesh.cell_data:
        return
    number, inner = 0, max(block.dim for block in mesh.cells)
    tags = [
        np.full(len(part), -1) if block.dim == inner else part
        for block, part in zip(mesh.cells, mesh.cell_data["su2:tag"], strict=True)
    ]
    for name in re.findall(r"^\s*MARKER_TAG\s*=\s*(\S+)", path.read_text(errors="replace"), re.MULTILINE):
        number = int(name) if name.isdigit() else number + 1
        mesh.cell_sets[name] = [np.flatnonzero(part == number) for part in tags]


@contextmanager
def _cells_counted(meshio: ModuleType) -> Iterator[None]:
    """Let meshio divide data at elements among blocks of cells, which in Gmsh's format 2.2 it has as pairs of two.

    There it takes the length of the pair for the number of cells, and refuses every file with such data.
    """
    reader = meshio.gmsh._gmsh22
    divide = reader.cell_data_from_raw
    reader.cell_data_from_raw = lambda cells, data: divide(
        [block[1] if isinstance(block, tuple) else block for block in cells], data
    )
    try:
        yield
    finally:
        reader.cell_data_from_raw = divide


def read_step(path: Path, step: int) -> "DataSet":
    """Return the mesh of one step of a series in XDMF, MED or Gmsh, with the fields of that step; raises DataError."""
    meshio = _meshio(path)
    import pyvista

    if path.suffix.lower() == ".msh":
        # meshio takes the name of a file, and that of binary data from the disk.
        with tempfile.TemporaryDirectory() as folder:
            part = Path(folder) / path.name
            part.write_bytes(gmsh_steps.content_of_step(path, step))
            return read(part)
    if path.suffix.lower() not in WRITTEN_SUFFIXES:
        content = med.complete_file(path, step)
        with _reading(path):
            return pyvista.from_meshio(_with_markers(_complete(meshio.med.read(content))))
    check_data_files(path)
    with _reading(path), meshio.xdmf.TimeSeriesReader(str(path)) as reader:
        grid = reader.collection[step]
        # A mesh that moves is stored with every step, another once.
        if grid.find("Geometry") is not None and grid.find("Topology") is not None:
            reader.mesh_grid = grid
        points, cells = reader.read_points_cells()
        _, point_data, cell_data = reader.read_data(step)
        mesh = meshio.Mesh(points, cells, point_data, cell_data)
    return pyvista.from_meshio(_with_markers(_complete(mesh)))


def times_of(path: Path) -> list[float]:
    """Return the times of the steps of a series in XDMF, MED or Gmsh; raises DataError."""
    if path.suffix.lower() not in WRITTEN_SUFFIXES:
        return (gmsh_steps if path.suffix.lower() == ".msh" else med).times_of(path)
    meshio = _meshio(path)
    check_data_files(path)
    with _reading(path), meshio.xdmf.TimeSeriesReader(str(path)) as reader:
        return [float(grid.find("Time").get("Value")) for grid in reader.collection]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what meshio meets in a damaged series into a DataError of one sentence."""
    try:
        with redirect_stderr(StringIO()), redirect_stdout(StringIO()):
            yield
    except (Exception, SystemExit) as error:
        raise DataError(f"{path} cannot be read as a series{bracketed(error)}; get the file again") from error


def write(path: Path, mesh: "DataSet") -> None:
    """Write a mesh as one XDMF file, without an HDF5 file beside it."""
    meshio = _meshio(path)
    import pyvista

    meshio.xdmf.write(str(path), pyvista.to_meshio(mesh), data_format="XML")


def bracketed(reason: BaseException | None) -> str:
    """Return the first line of an error's text that says something in brackets, nothing where it has none."""
    text = "" if reason is None or isinstance(reason, SystemExit) else str(reason)
    # VTK's messages begin with where in its own code they arise, pyvista's with its own words.
    text = re.sub(r"^(ERROR: In .*\n?.*?\(0x[0-9a-f]+\): |The VTK reader .*)", "", text)
    line = next((line.strip(' \t".') for line in text.split("\n") if line.strip()), "")
    return f" ({line})" if line else ""


def _complete(mesh: "Mesh") -> "Mesh":
    """Return a mesh in space, without fields of fewer values than points or cells, which some readers of meshio make.

    Values at the corners of cells are one row per cell.
    """
    count, sizes = len(mesh.points), [len(block.data) for block in mesh.cells]
    mesh.points = np.pad(mesh.points, [(0, 0), (0, 3 - np.shape(mesh.points)[1])])
    mesh.point_data = {name: field for name, field in mesh.point_data.items() if len(field) == count}
    whole = {name: parts for name, parts in mesh.cell_data.items() if [len(part) for part in parts] == sizes}
    mesh.cell_data = {name: [_rows(part) for part in parts] for name, parts in whole.items()}
    return mesh


def _rows(field: np.ndarray) -> np.ndarray:
    return field.reshape(len(field), -1) if np.ndim(field) > 2 else field


def _with_markers(mesh: "Mesh") -> "Mesh":
    """Return a mesh with a field per set of nodes or cells, at the points and at the cells, in place of the sets."""
    at_cells = {name: _in_set(mesh, parts) for name, parts in _cell_sets(mesh).items()}
    at_points = {name: np.isin(np.arange(len(mesh.points)), nodes) for name, nodes in _point_sets(mesh).items()}
    for name, inside in at_cells.items():
        mesh.cell_data.setdefault(name, [part.astype(float) for part in inside])
        nodes = [np.ravel(block.data[part]) for block, part in zip(mesh.cells, inside, strict=True) if part.any()]
        at_points.setdefault(name, np.isin(np.arange(len(mesh.points)), np.concatenate([np.zeros(0, int), *nodes])))
    for name, inside in at_points.items():
        mesh.point_data.setdefault(name, inside.astype(float))
    mesh.cell_sets, mesh.point_sets = {}, {}
    return mesh


def _point_sets(mesh: "Mesh") -> dict[str, np.ndarray]:
    """Return the numbers of the points of every named set: those of Abaqus and others, and families of MED."""
    families = _families(getattr(mesh, "point_tags", {}))
    tags = np.asarray(mesh.point_data.get("point_tags", ()))
    return {**{name: np.flatnonzero(np.isin(tags, ids)) for name, ids in families.items()}, **mesh.point_sets}


def _cell_sets(mesh: "Mesh") -> dict[str, list[np.ndarray]]:
    """Return the numbers of the cells of every named set, block by block; groups of Gmsh are such sets."""
    found = {name: parts for name, parts in mesh.cell_sets.items() if not name.startswith("gmsh:")}
    numbered = {name: entry for name, entry in mesh.field_data.items() if isinstance(entry, np.ndarray)}
    groups = {name: [int(entry[0])] for name, entry in numbered.items() if entry.shape == (2,)}
    for key, named in (("cell_tags", _families(getattr(mesh, "cell_tags", {}))), ("gmsh:physical", groups)):
        if key in mesh.cell_data:
            for name, ids in named.items():
                found.setdefault(name, [np.flatnonzero(np.isin(part, ids)) for part in mesh.cell_data[key]])
    return found


def _families(tags: dict[int, list[str]]) -> dict[str, list[int]]:
    """Return the numbers of the families of every group's name."""
    names = {name for group in tags.values() for name in group}
    return {name: [number for number, group in tags.items() if name in group] for name in names}


def _in_set(mesh: "Mesh", parts: list[Any]) -> list[np.ndarray]:
    """Return which cells of each block are in a set."""
    pairs = zip(mesh.cells, parts, strict=True)
    return [np.isin(np.arange(len(block.data)), [] if part is None else part) for block, part in pairs]


def _meshio(path: Path) -> ModuleType:
    try:
        import meshio
        import pyvista  # noqa: F401  (which holds the meshes)
    except ImportError as error:
        raise DataError(f"{path} needs {error.name}; run `pip install 'flare_jax[viz]'`") from error
    return meshio
