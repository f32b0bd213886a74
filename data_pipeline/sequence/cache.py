"""Tokenised data kept as HDF5 beside the files it was made of, so that a second run reads them in seconds."""

import hashlib
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np

from data_pipeline.errors import DataError

Arrays = dict[str, np.ndarray]


def stamp(files: Iterable[Path], *settings: object) -> str:
    """Return a key that changes with the settings and with the name, size or time of any file."""
    digest = hashlib.sha256(repr(settings).encode())
    for file in sorted(files):
        status = file.stat()
        digest.update(f"{file.name}:{status.st_size}:{status.st_mtime_ns};".encode())
    return digest.hexdigest()[:16]


def cached(path: Path, key: str, build: Callable[[], Arrays]) -> Arrays:
    """Return the arrays that `path` keeps under `key`; where it keeps others or none, build and keep them.

    A folder that cannot be written costs the caching, not the arrays.
    """
    with suppress(OSError, KeyError), h5py.File(path, "r") as file:
        if file.attrs["key"] == key:
            return {name: file[name][...] for name in file}
    arrays = build()
    with suppress(OSError):
        write_arrays(path, arrays, key=key)
    return arrays


def write_arrays(path: Path, arrays: Arrays, key: str = "") -> None:
    """Write arrays as HDF5 through a temporary file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with h5py.File(temporary, "w") as file:
            file.attrs["key"] = key
            for name, array in arrays.items():
                file.create_dataset(name, data=array, compression="lzf" if array.ndim > 1 else None)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_arrays(path: Path, names: Iterable[str]) -> Arrays:
    """Read the named arrays of an HDF5 file; raises DataError for a damaged or another file."""
    try:
        with h5py.File(path, "r") as file:
            return {name: file[name][...] for name in names}
    except (OSError, KeyError) as error:
        raise DataError(f"{path} cannot be read ({error}); delete its folder and generate the data again") from error
