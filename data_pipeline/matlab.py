"""Arrays of MATLAB files, of version 5 through SciPy and of version 7.3, which are HDF5 files, through h5py.

MATLAB stores the first axis fastest, so that HDF5 shows the axes in the opposite order; they are turned round here and
both versions give equal arrays. Of an empty array version 7.3 stores the shape, and of a sparse one its columns.
"""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import scipy.io
import scipy.sparse
from scipy.io.matlab import MatReadError

from data_pipeline.errors import DataError
from data_pipeline.files import check_shape, finite

Index = tuple[slice, ...]
# What SciPy and h5py raise for damaged files; KeyError for sparse arrays without their parts.
_ERRORS = (OSError, ValueError, TypeError, KeyError, NotImplementedError, MatReadError, EOFError)


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
    except _ERRORS as error:
        raise DataError(f"{path} cannot be read as a MATLAB file ({error}); download or generate it again") from error
    check_shape(array, shape, where)
    array = array.toarray() if scipy.sparse.issparse(array) else array
    # A copy lets the whole array go: slices keep it in memory.
    return finite(array if index is None else array[index].copy(), where)


def mat_shape(path: Path, name: str) -> tuple[int, ...]:
    """Return the shape of array `name` of a `.mat` file, in MATLAB's order, without reading the array."""
    try:
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                shapes = {key: _hdf5_shape(item) for key, item in file.items() if _is_array(item)}
        else:
            shapes = {entry: tuple(shape) for entry, shape, _ in scipy.io.whosmat(path)}
    except _ERRORS as error:
        raise DataError(f"{path} cannot be read as a MATLAB file ({error}); download or generate it again") from error
    if name not in shapes:
        raise DataError(_lacks(path, name, list(shapes)))
    return shapes[name]


def _from_hdf5(path: Path, name: str, shape: Sequence[int | None], index: Index | None) -> np.ndarray:
    with h5py.File(path, "r") as file:
        stored = file.get(name)
        if not _is_array(stored):
            raise DataError(_lacks(path, name, list(file)))
        where = f"{path}[{name}]"
        if _is_sparse(stored) or _is_empty(stored):
            array = _sparse(stored) if _is_sparse(stored) else np.zeros(_hdf5_shape(stored))
            check_shape(array, shape, where)
            return array if index is None else array[index]
        check_shape(stored, tuple(reversed(shape)), f"{where}, whose axes are stored in reverse,")
        part = stored[()] if index is None else stored[tuple(reversed(index))]
        return np.ascontiguousarray(part.T)


def _is_array(item: object) -> bool:
    return isinstance(item, h5py.Dataset) or _is_sparse(item)


def _is_sparse(item: object) -> bool:
    return isinstance(item, h5py.Group) and "MATLAB_sparse" in item.attrs


def _is_empty(item: h5py.Dataset) -> bool:
    return bool(item.attrs.get("MATLAB_empty", 0))


def _hdf5_shape(item: h5py.Dataset | h5py.Group) -> tuple[int, ...]:
    """Return the shape of an array in MATLAB's order; of an empty one it is what the file stores as its values."""
    if _is_sparse(item):
        return int(item.attrs["MATLAB_sparse"]), len(item["jc"]) - 1
    return tuple(int(size) for size in item[()].ravel()) if _is_empty(item) else item.shape[::-1]


def _sparse(item: h5py.Group) -> np.ndarray:
    """Return a sparse matrix as a full one; one without entries has neither values nor rows."""
    values, rows = (item[key][()] if key in item else np.zeros(0) for key in ("data", "ir"))
    columns = (values, rows.astype(np.int64), item["jc"][()].astype(np.int64))
    return scipy.sparse.csc_array(columns, shape=_hdf5_shape(item)).toarray()


def _lacks(path: Path, name: str, names: Sequence[str]) -> str:
    return f"{path} has the arrays {sorted(names)} but lacks {name!r}; check that it is the right file"
