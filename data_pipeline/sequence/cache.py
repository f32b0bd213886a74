"""Tokenised data kept as HDF5 beside the files it was made of, so that a second run reads them in seconds."""

import hashlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np

from data_pipeline import hdf5
from data_pipeline.errors import DataError
from runtime.files import replacing

Arrays = dict[str, np.ndarray]


def stamp(files: Iterable[Path], *settings: object) -> str:
    """Return a key that changes with the settings and with the name, size or time of any file."""
    digest = hashlib.sha256(repr(settings).encode())
    for file in sorted(files):
        status = file.stat()
        digest.update(f"{file.name}:{status.st_size}:{status.st_mtime_ns};".encode())
    return digest.hexdigest()[:16]


def cached(path: Path, key: str, build: Callable[[], Arrays]) -> Arrays:
    """Return the arrays that `path` keeps under `key`; where it keeps others, none or damaged ones, build and keep new.

    A folder that cannot be written costs the caching, not the arrays.
    """
    if path.exists():
        with suppress(DataError), hdf5.open_hdf5(path) as file:
            if file.attrs["key"] == key:
                return {name: hdf5.read_array(item) for name, item in hdf5.members(file).items()}
    arrays = build()
    with suppress(OSError):
        write_arrays(path, arrays, key=key)
    return arrays


def write_arrays(path: Path, arrays: Arrays, key: str = "") -> None:
    """Write arrays as HDF5, whole or not at all, with sums by which damage is noticed when they are read."""
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["key"] = key
        for name, array in arrays.items():
            compression = "lzf" if array.ndim > 1 else None
            file.create_dataset(name, data=array, compression=compression, fletcher32=array.size > 0 and array.ndim > 0)


def read_arrays(path: Path, names: Iterable[str]) -> Arrays:
    """Read the named arrays of an HDF5 file; raises DataError for a damaged or another file."""
    with hdf5.open_hdf5(path, remedy="delete its folder and generate the data again") as file:
        arrays = hdf5.arrays(file)
        if missing := sorted(set(names) - set(arrays)):
            raise DataError(f"{path} lacks {missing}; delete its folder and generate the data again")
        return {name: hdf5.read_array(arrays[name]) for name in names}
