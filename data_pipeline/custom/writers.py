"""Writing points, cells and fields in the formats that are read: npz, HDF5, and with meshio meshes."""

import os
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from data_pipeline.custom.readers import HDF5_SUFFIXES, MESH_SUFFIXES, SUFFIXES
from data_pipeline.custom.sample import Cells
from data_pipeline.errors import DataError
from data_pipeline.vtk import MeshFile, write_mesh


def check_writable(path: Path) -> None:
    """Raise DataError if the suffix of `path` is not one of a known format."""
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path} is of no known format; choose a name that ends in one of {', '.join(SUFFIXES)}")


def write_fields(path: Path, points: np.ndarray, cells: Cells, fields: Mapping[str, np.ndarray]) -> None:
    """Write one sample [N, ...] in the format of the suffix, whole or not at all; raises DataError."""
    check_writable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    suffix = path.suffix.lower()
    if suffix in MESH_SUFFIXES:
        # Meshes have three coordinates, and fields there one value, or a vector, at every point.
        spatial = np.pad(points, [(0, 0), (0, 3 - points.shape[1])])
        write_mesh(temporary, MeshFile(spatial, cells, dict(_at_points(fields, len(points)))))
    elif suffix in HDF5_SUFFIXES:
        with h5py.File(temporary, "w") as file:
            write_group(file, points, cells, fields)
    else:
        np.savez(temporary, **named_arrays(points, cells, fields))
    os.replace(temporary, path)


def write_group(group: h5py.Group, points: np.ndarray, cells: Cells, fields: Mapping[str, np.ndarray]) -> None:
    """Write one sample into a group of an HDF5 file."""
    for name, array in named_arrays(points, cells, fields).items():
        group.create_dataset(name, data=array, track_times=False)


def named_arrays(points: np.ndarray, cells: Cells, fields: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return all arrays under the names by which they are read."""
    blocks: dict[str, list[np.ndarray]] = {}
    for kind, numbers in cells:
        blocks.setdefault(f"cells_{kind}", []).append(numbers)
    # Polygons with different numbers of corners do not fit into one array.
    regular = {name: parts for name, parts in blocks.items() if len({part.shape[1] for part in parts}) == 1}
    return {"points": points, **{name: np.concatenate(parts) for name, parts in regular.items()}, **fields}


def _at_points(fields: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """Return fields of the sample as a whole as constant fields, and vectors in the plane as vectors in space."""
    spread = {
        name: array if array.ndim and len(array) == count else np.broadcast_to(array, (count, *array.shape))
        for name, array in fields.items()
    }
    return {
        name: np.pad(array, [(0, 0), (0, 1)]) if array.shape[1:] == (2,) else np.ascontiguousarray(array)
        for name, array in spread.items()
    }
