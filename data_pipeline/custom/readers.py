"""Reading the samples of a user's data set: arrays of npz and HDF5 files, and meshes of every format."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data_pipeline import hdf5
from data_pipeline.custom.described import names_described, read_described
from data_pipeline.custom.sample import MESH_POINTS, Contents, Fields, Sample, make_sample
from data_pipeline.errors import DataError
from data_pipeline.numpy_files import open_npz
from data_pipeline.vtk import MESH_SUFFIXES, fields_at_centres, fields_at_nodes, read_mesh

HDF5_SUFFIXES = (".h5", ".hdf5")
# The value of a step of a series that is its time.
TIME = "time"
SUFFIXES = (".npz", *HDF5_SUFFIXES, *MESH_SUFFIXES)


@dataclass(frozen=True)
class Reference:
    """Where a sample is: a file, and the group in it if it holds several.

    `case` is its name where that is not the file's. A step of a series has the name of this, `series`, its `number`
    from 0 and, where the series says so, its `time`; `within` is the number of a sample in a file that numbers them.
    `problem` says why a file of several samples could not be looked
    into, which is raised when it is read: it does not stop the others.
    """

    path: Path
    group: str = ""
    case: str = ""
    time: float | None = None
    series: str = ""
    number: int = 0
    within: int | None = None
    problem: str = ""

    @property
    def name(self) -> str:
        """A name of the sample among those of its folder or file."""
        return self.group.replace("/", "_") if self.group else self.case or self.path.stem

    def __str__(self) -> str:
        return f"{self.path}:{self.group}" if self.group else str(self.path)


def read_sample(reference: Reference, fields: Fields) -> Sample:
    """Read and check one sample; raises DataError, in one sentence that names the file and the array."""
    return make_sample(reference.name, read_contents(reference, fields), fields, str(reference))


def list_arrays(reference: Reference, cell_data: str = "") -> Sequence[str]:
    """Return the names of the arrays of a sample; raises DataError."""
    return read_contents(reference, Fields("", (), (), cell_data=cell_data)).present


def read_contents(reference: Reference, fields: Fields | None = None, cell_data: str = "") -> Contents:
    """Read the arrays that `fields` name and those of cells, or all that a file has; raises DataError.

    Of a mesh always all are read; its points are called `points`. `cell_data` is that of `fields`, given without them.
    """
    if reference.problem:
        raise DataError(reference.problem)
    contents = _read(reference, fields, cell_data)
    return _with_time(contents, reference) if reference.series else contents


def _read(reference: Reference, fields: Fields | None, cell_data: str) -> Contents:
    suffix = reference.path.suffix.lower()
    if suffix in MESH_SUFFIXES:
        return _read_mesh(reference, cell_data if fields is None else fields.cell_data)
    if reference.within is not None:
        present = names_described(reference.path)
        wanted = [name for name in present if fields is None or _wanted(name, fields)]
        return Contents(read_described(reference.path, reference.within, wanted), present)
    if suffix == ".npz":
        return _read_npz(reference.path, fields)
    if suffix in HDF5_SUFFIXES:
        return _read_hdf5(reference, fields)
    raise DataError(f"{reference.path} is of no known format; the suffixes are {', '.join(SUFFIXES)}")


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


def _wanted(name: str, fields: Fields | None) -> bool:
    return fields is not None and (name in fields.names() or name == fields.cells or name.startswith("cells_"))


def _read_npz(path: Path, fields: Fields | None) -> Contents:
    with open_npz(path) as archive:
        if fields is not None:
            arrays = {name: archive.read(name) for name in archive.files if _wanted(name, fields)}
            return Contents(arrays, archive.files)
        return _everything(archive.files, archive.read, archive.read_text)


def _read_hdf5(reference: Reference, fields: Fields | None) -> Contents:
    with hdf5.open_hdf5(reference.path) as file:
        group = hdf5.find(file, reference.group)
        if group is None:
            raise DataError(f"{reference} does not exist; the file has changed, or another was meant")
        arrays = hdf5.arrays(group)
        if fields is not None:
            wanted = {name: hdf5.read_array(item) for name, item in arrays.items() if _wanted(name, fields)}
            return Contents(wanted, tuple(arrays))
        numbers, text = (lambda name: hdf5.read_array(arrays[name])), (lambda name: hdf5.read_texts(arrays[name]))
        return _everything(tuple(arrays), numbers, text)


def _everything(
    names: Sequence[str], numbers: Callable[[str], np.ndarray], text: Callable[[str], np.ndarray]
) -> Contents:
    """Return the contents of a file whose arrays are read by name as numbers, or as text, which may raise DataError."""
    arrays, unreadable = {}, []
    for name in names:
        for read in (numbers, text):
            try:
                arrays[name] = read(name)
                break
            except DataError:
                continue
        else:
            unreadable.append(name)
    return Contents(arrays, names, unreadable=tuple(unreadable))


def _read_mesh(reference: Reference, cell_data: str) -> Contents:
    mesh = read_mesh(reference.path, reference.within)
    points, fields = mesh.points, {name: np.asarray(mesh.point_data[name]) for name in mesh.point_data}
    if cell_data == "centres":
        if not mesh.n_cells:
            raise DataError(f"{reference} has no cells whose centres could be the points; leave data.cell_data out")
        points, fields = fields_at_centres(mesh)
    elif cell_data == "nodes":
        fields = {**fields_at_nodes(mesh), **fields}
    of_sample = {name: _flat(np.asarray(mesh.field_data[name])) for name in mesh.field_data}
    arrays = {**of_sample, **fields, MESH_POINTS: np.asarray(points)}
    return Contents(arrays, tuple(arrays), mesh, at_centres=cell_data == "centres")


def _with_time(contents: Contents, reference: Reference) -> Contents:
    """Return the contents of a step of a series with its time as a value of the sample.

    It is the one that the series says, or else that of the file (ParaView's `TimeValue`), or the number of the step.
    """
    if TIME in contents.arrays and reference.time is None:
        return contents
    stored = contents.arrays.get("TimeValue", np.array(float(reference.number)))
    time = np.float64(reference.time if reference.time is not None else stored.reshape(-1)[0])
    arrays = {TIME: np.array(time), **{name: array for name, array in contents.arrays.items() if name != TIME}}
    return replace(contents, arrays=arrays, present=tuple(dict.fromkeys((TIME, *contents.present))))


def _flat(array: np.ndarray) -> np.ndarray:
    """Return one vector, which VTK stores as a row, as a vector."""
    return array[0] if array.ndim == 2 and len(array) == 1 else array
