"""Arrays of MATLAB files, of version 5 through SciPy and of version 7.3, which are HDF5 files, through h5py.

MATLAB stores the first axis fastest, so that HDF5 shows the axes in the opposite order; they are turned round here and
both versions give equal arrays.
"""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import scipy.io
from scipy.io.matlab import MatReadError

from data_pipeline.errors import DataError
from data_pipeline.files import check_shape, finite

Index = tuple[slice, ...]


def read_mat(path: Path, name: str, shape: Sequence[int | None], index: Index | None = None) -> np.ndarray:
    """Return array `name` of a `.mat` file as float32, or its part `index`, one slice per axis.

    `shape` is that of the whole array, in MATLAB's order, with None for any size. Of version 7.3 only the part is read.
    Raises DataError for a file that is no MATLAB file, an array that is not there, misshapen or not finite.
    """
    where = f"{path}[{name}]"
    try:
        if h5py.is_hdf5(path):
            return finite(_from_hdf5(path, name, shape, index), where)
        contents = scipy.io.loadmat(path, variable_names=[name])
        if name not in contents:
            raise DataError(_lacks(path, name, [entry for entry, _, _ in scipy.io.whosmat(path)]))
        array = contents.pop(name)
    except DataError:
        raise
    except (OSError, ValueError, TypeError, NotImplementedError, MatReadError, EOFError) as error:
        raise DataError(f"{path} cannot be read as a MATLAB file ({error}); download or generate it again") from error
    check_shape(array, shape, where)
    # A copy lets the whole array go: slices keep it in memory.
    return finite(array if index is None else array[index].copy(), where)


def mat_shape(path: Path, name: str) -> tuple[int, ...]:
    """Return the shape of array `name` of a `.mat` file, in MATLAB's order, without reading the array."""
    try:
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                shapes = {key: value.shape[::-1] for key, value in file.items() if isinstance(value, h5py.Dataset)}
        else:
            shapes = {entry: tuple(shape) for entry, shape, _ in scipy.io.whosmat(path)}
    except (OSError, ValueError, TypeError, NotImplementedError, MatReadError, EOFError) as error:
        raise DataError(f"{path} cannot be read as a MATLAB file ({error}); download or generate it again") from error
    if name not in shapes:
        raise DataError(_lacks(path, name, list(shapes)))
    return shapes[name]


def _from_hdf5(path: Path, name: str, shape: Sequence[int | None], index: Index | None) -> np.ndarray:
    with h5py.File(path, "r") as file:
        if not isinstance(file.get(name), h5py.Dataset):
            raise DataError(_lacks(path, name, list(file)))
        stored = file[name]
        check_shape(stored, tuple(reversed(shape)), f"{path}[{name}], whose axes are stored in reverse,")
        part = stored[()] if index is None else stored[tuple(reversed(index))]
        return np.ascontiguousarray(part.T)


def _lacks(path: Path, name: str, names: Sequence[str]) -> str:
    return f"{path} has the arrays {sorted(names)} but lacks {name!r}; check that it is the right file"
