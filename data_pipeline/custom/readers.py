"""Reading the samples of a user's data set: npz and HDF5 with what is here, meshes with meshio."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipeline import hdf5
from data_pipeline.custom.sample import BLOCK, Fields, Sample, make_sample
from data_pipeline.errors import DataError
from data_pipeline.numpy_files import open_npz
from data_pipeline.vtk import read_mesh

HDF5_SUFFIXES = (".h5", ".hdf5")
MESH_SUFFIXES = (".vtu", ".vtk", ".xdmf", ".msh", ".inp", ".stl", ".ply", ".obj")
SUFFIXES = (".npz", *HDF5_SUFFIXES, *MESH_SUFFIXES)


@dataclass(frozen=True)
class Reference:
    """Where a sample is: a file, and the group in it if it holds several."""

    path: Path
    group: str = ""

    @property
    def name(self) -> str:
        """A name of the sample among those of its folder or file."""
        return self.group.replace("/", "_") if self.group else self.path.stem

    def __str__(self) -> str:
        return f"{self.path}:{self.group}" if self.group else str(self.path)


def read_sample(reference: Reference, fields: Fields, targets_wanted: bool = True) -> Sample:
    """Read and check one sample; raises DataError, in one sentence that names the file and the array."""
    arrays, present = _read_arrays(reference, fields)
    return make_sample(reference.name, arrays, fields, str(reference), present, targets_wanted)


def list_groups(path: Path) -> dict[str, list[str]]:
    """Return the names of the samples in an HDF5 file by split; '' is the split of samples that are in none.

    A file whose root holds arrays is one sample, named ''.
    """
    with hdf5.open_hdf5(path) as file:
        if hdf5.arrays(file):
            return {"": [""]}
        splits: dict[str, list[str]] = {}
        for name, group in hdf5.groups(file).items():
            inner = hdf5.groups(group)
            if inner:
                # Arrays beside the samples, such as notes, are none.
                splits[name] = [f"{name}/{key}" for key in inner]
            else:
                splits.setdefault("", []).append(name)
        return splits


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Return a sort key by which run_2 comes before run_10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]


def _read_arrays(reference: Reference, fields: Fields) -> tuple[dict[str, np.ndarray], Sequence[str]]:
    """Return the wanted arrays that a file has, and the names of all it has."""
    suffix = reference.path.suffix.lower()
    if suffix == ".npz":
        return _read_npz(reference.path, fields.names())
    if suffix in HDF5_SUFFIXES:
        return _read_hdf5(reference, fields.names())
    if suffix in MESH_SUFFIXES:
        return _read_mesh(reference.path, fields)
    raise DataError(f"{reference.path} is of no known format; the suffixes are {', '.join(SUFFIXES)}")


def _wanted(name: str, names: Collection[str]) -> bool:
    return name in names or name == "cells" or name.startswith("cells_")


def _read_npz(path: Path, names: Collection[str]) -> tuple[dict[str, np.ndarray], Sequence[str]]:
    with open_npz(path) as archive:
        return {name: archive.read(name) for name in archive.files if _wanted(name, names)}, archive.files


def _read_hdf5(reference: Reference, names: Collection[str]) -> tuple[dict[str, np.ndarray], Sequence[str]]:
    with hdf5.open_hdf5(reference.path) as file:
        group = hdf5.find(file, reference.group)
        if group is None:
            raise DataError(f"{reference} does not exist; the file has changed, or another was meant")
        arrays = hdf5.arrays(group)
        return {name: hdf5.read_array(item) for name, item in arrays.items() if _wanted(name, names)}, list(arrays)


def _read_mesh(path: Path, fields: Fields) -> tuple[dict[str, np.ndarray], Sequence[str]]:
    mesh = read_mesh(path)
    missing = fields.names() - set(mesh.fields) - {fields.points}
    at_cells = sorted(missing & set(mesh.cell_fields))
    if at_cells:
        raise DataError(
            f"{path} has {at_cells[0]!r} at its cells, and fields are wanted at the points; interpolate it, for "
            "example with pyvista's cell_data_to_point_data()"
        )
    arrays = {name: array for name, array in mesh.fields.items() if name in fields.names()}
    # A mesh may have several blocks of one type, of which a polygon's differ in their number of corners.
    cells = {f"cells_{kind}{BLOCK}{number}": array for number, (kind, array) in enumerate(mesh.cells)}
    return arrays | cells | {fields.points: mesh.points}, list(mesh.fields)
