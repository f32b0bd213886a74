"""Writing samples in the formats that are read: npz, HDF5 and meshes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import h5py
import numpy as np

from data_pipeline import vtk
from data_pipeline.custom.readers import HDF5_SUFFIXES, SUFFIXES
from data_pipeline.custom.sample import MESH_POINTS, Cells, Contents
from data_pipeline.errors import DataError
from runtime.files import replacing

if TYPE_CHECKING:
    from pyvista import DataSet

WRITTEN_SUFFIXES = (".npz", *HDF5_SUFFIXES, *vtk.WRITTEN_SUFFIXES)


def check_known(path: Path) -> None:
    """Raise DataError if the suffix of `path` is not one of a known format."""
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(
            f"{path} is of no known format; choose a name that ends in one of {', '.join(WRITTEN_SUFFIXES)}"
        )


def holding_fields(path: Path) -> Path:
    """Return `path`, or the name with .vtu where its format holds no fields at points, as of stl."""
    return path if path.suffix.lower() in WRITTEN_SUFFIXES else path.with_suffix(".vtu")


def write_fields(path: Path, points: np.ndarray, cells: Cells, fields: Mapping[str, np.ndarray]) -> None:
    """Write one sample [N, ...] in the format of the suffix, whole or not at all; raises DataError."""
    arrays = named_arrays(points, cells, fields)
    write_contents(path, Contents(arrays, tuple(arrays)), MESH_POINTS, cells, {})


def write_contents(path: Path, contents: Contents, points: str, cells: Cells, fields: Mapping[str, np.ndarray]) -> None:
    """Write all that a file holds and `fields` [N] or [N, C] beside it, whole or not at all; raises DataError.

    Where the contents have no mesh, the one of a mesh file is made of the array `points` and the `cells`.
    """
    check_known(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix.lower()
    with replacing(path) as temporary:
        if suffix in HDF5_SUFFIXES:
            with h5py.File(temporary, "w") as file:
                write_group(file, all_arrays(contents) | fields)
        elif suffix == ".npz":
            np.savez(temporary, **(all_arrays(contents) | fields))
        else:
            mesh = as_mesh(contents, points, cells, str(path))
            _add_fields(mesh, fields, contents.at_centres)
            vtk.write_mesh(temporary, mesh)


def _add_fields(mesh: "DataSet", fields: Mapping[str, np.ndarray], at_centres: bool) -> None:
    """Add fields at the points of a mesh, or at its main cells, NaN at the others."""
    if not at_centres:
        mesh.point_data.update({name: _spatial(field) for name, field in fields.items()})
        return
    chosen = vtk.main_cells(mesh)
    for name, field in fields.items():
        values = np.full((len(chosen), *field.shape[1:]), np.nan)
        values[chosen] = field
        mesh.cell_data[name] = _spatial(values)


def write_group(group: h5py.Group, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays into a group of an HDF5 file."""
    for name, array in arrays.items():
        text = {"dtype": h5py.string_dtype()} if array.dtype.kind == "U" else {}
        group.create_dataset(name, data=array.astype(object) if text else array, track_times=False, **text)


def named_arrays(points: np.ndarray, cells: Cells, fields: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return all arrays under the names by which they are read."""
    return {MESH_POINTS: points, **{f"cells_{kind}": numbers for kind, numbers in cells}, **fields}


def all_arrays(contents: Contents) -> dict[str, np.ndarray]:
    """Return all that a file holds as arrays; what a mesh has at its cells is called `cell_NAME`."""
    if contents.mesh is None:
        return dict(contents.arrays)
    if contents.at_centres:
        return dict(contents.arrays)
    at_cells = {f"cell_{name}": np.asarray(contents.mesh.cell_data[name]) for name in contents.mesh.cell_data}
    cells = {f"cells_{kind}": numbers for kind, numbers in vtk.mesh_cells(contents.mesh).items()}
    return {**contents.arrays, **cells, **at_cells}


def as_mesh(contents: Contents, points: str, cells: Cells, where: str) -> "DataSet":
    """Return a mesh with all that a file holds: arrays of one row per point as fields, others as facts of the mesh."""
    if contents.mesh is not None:
        return contents.mesh.copy(deep=False)
    places = contents.arrays[points]
    mesh = vtk.make_mesh(places, cells, where)
    for name, array in contents.arrays.items():
        if name == points or name.startswith("cells"):
            continue
        if array.ndim and len(array) == len(places) and array.dtype.kind in "fbiu":
            mesh.point_data[name] = _spatial(array)
        else:
            mesh.field_data[name] = _plain(np.atleast_1d(array))
    return mesh


def _plain(array: np.ndarray) -> np.ndarray:
    """Return text as VTK takes it, in ASCII."""
    if array.dtype.kind == "S":
        return array.astype(str)
    if array.dtype.kind != "U":
        return array
    return np.char.decode(np.char.encode(array, "ascii", "backslashreplace"), "ascii")


def _spatial(array: np.ndarray) -> np.ndarray:
    """Return a field as mesh files have them: vectors in the plane as vectors in space, tensors as one row."""
    rows = array.reshape(len(array), -1) if array.ndim > 2 else array
    return np.pad(rows, [(0, 0), (0, 1)]) if rows.shape[1:] == (2,) else rows


def write_collection(path: Path, files: Sequence[Path], times: Sequence[float]) -> None:
    """Write a collection of ParaView (.pvd) of files beside or below it at these times."""
    root = ElementTree.Element("VTKFile", type="Collection", version="0.1")
    collection = ElementTree.SubElement(root, "Collection")
    for file, time in zip(files, times, strict=True):
        name = file.relative_to(path.parent).as_posix()
        ElementTree.SubElement(collection, "DataSet", timestep=repr(time), part="0", file=name)
    with replacing(path) as temporary:
        ElementTree.ElementTree(root).write(temporary, xml_declaration=True, encoding="utf-8")
