"""Arrays of MATLAB files: of version 4 through SciPy, 5, and 7.3, which are HDF5 files, through h5py.

MATLAB stores the first axis fastest, so that HDF5 shows the axes in the opposite order; they are turned round here and
both versions give equal arrays. Of an empty array version 7.3 stores the shape, and of a sparse one its columns.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
import scipy.sparse

from data_pipeline import hdf5
from data_pipeline.errors import DataError
from data_pipeline.files import check_shape, finite
from data_pipeline.matlab5 import list_shapes, read_variable
from data_pipeline.sizes import check_memory
from runtime.words import brief

Index = tuple[slice, ...]
_KIND, _REMEDY = "a MATLAB file", "download or generate it again"


def read_mat(path: Path, name: str, shape: Sequence[int | None], index: Index | None = None) -> np.ndarray:
    """Return array `name` of a `.mat` file as floating-point numbers, or its part `index`, one slice per axis.

    `shape` is that of the whole array, in MATLAB's order, with None for any size. Of version 7.3 only the part is read.
    Raises DataError for a file that is no MATLAB file, an array that is not there, misshapen or not finite.
    """
    where = f"{path}[{name}]"
    if h5py.is_hdf5(path):
        return finite(_from_hdf5(path, name, shape, index), where)
    array = _from_version_4(path, name) if _is_version_4(path) else read_variable(path, name)
    if array is None:
        raise DataError(_lacks(path, name, list(_shapes(path))))
    check_shape(array, shape, where)
    array = _full(array, where) if scipy.sparse.issparse(array) else array
    # A copy lets the whole array go: slices keep it in memory.
    return finite(array if index is None else array[index].copy(), where)


def mat_shape(path: Path, name: str) -> tuple[int, ...]:
    """Return the shape of array `name` of a `.mat` file, in MATLAB's order, without reading the array."""
    if h5py.is_hdf5(path):
        with hdf5.open_hdf5(path, _KIND, _REMEDY) as file:
            return _hdf5_shape(_stored(file, path, name))
    shapes = _shapes(path)
    if name not in shapes:
        raise DataError(_lacks(path, name, list(shapes)))
    return shapes[name]


def _is_version_4(path: Path) -> bool:
    """Whether one of the first bytes is zero, where newer versions have text."""
    if not path.is_file():
        raise DataError(f"{path} does not exist; check the path")
    with path.open("rb") as file:
        return 0 in file.read(4)


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    if not _is_version_4(path):
        return list_shapes(path)
    return {name: tuple(shape) for name, shape, _ in _scipy(path, scipy.io.whosmat)}


def _from_version_4(path: Path, name: str) -> Any:
    return _scipy(path, lambda file: scipy.io.loadmat(file, variable_names=[name])).get(name)


def _scipy(path: Path, read: Callable[[str], Any]) -> Any:
    """Return what `read` makes of a file."""
    try:
        with np.errstate(all="ignore"):
            return read(str(path))
    except Exception as error:  # SciPy passes on what it meets in damaged files
        reason = brief(error)
        raise DataError(f"{path} cannot be read as {_KIND} ({reason}); {_REMEDY}") from error


def _from_hdf5(path: Path, name: str, shape: Sequence[int | None], index: Index | None) -> np.ndarray:
    where = f"{path}[{name}]"
    with hdf5.open_hdf5(path, _KIND, _REMEDY) as file:
        stored = _stored(file, path, name)
        if _is_sparse(stored) or _is_empty(stored):
            array = _sparse(stored, where) if _is_sparse(stored) else _empty(stored, where)
            check_shape(array, shape, where)
            return array if index is None else array[index]
        check_shape(stored, tuple(reversed(shape)), f"{where}, whose axes are stored in reverse,")
        part = hdf5.read_array(stored, () if index is None else tuple(reversed(index)))
        return np.ascontiguousarray(part.T)


def _stored(file: h5py.Group, path: Path, name: str) -> h5py.Dataset | h5py.Group:
    """Return the dataset, or the group of a sparse array, called `name`; raises DataError where it holds no numbers."""
    found = {
        key: item for key, item in hdf5.members(file).items() if isinstance(item, h5py.Dataset) or _is_sparse(item)
    }
    if name not in found:
        raise DataError(_lacks(path, name, list(found)))
    if found[name].attrs.get("MATLAB_class") == b"char":
        raise DataError(f"{path}[{name}] is a text, stored as numbers; check that it is the right file")
    return found[name]


def _is_sparse(item: object) -> bool:
    return isinstance(item, h5py.Group) and "MATLAB_sparse" in item.attrs


def _is_empty(item: h5py.Dataset) -> bool:
    return bool(item.attrs.get("MATLAB_empty", 0))


def _hdf5_shape(item: h5py.Dataset | h5py.Group) -> tuple[int, ...]:
    """Return the shape of an array in MATLAB's order; of an empty one it is what the file stores as its values."""
    if _is_sparse(item):
        return int(item.attrs["MATLAB_sparse"]), len(hdf5.arrays(item)["jc"]) - 1
    return tuple(int(size) for size in hdf5.read_array(item).ravel()) if _is_empty(item) else item.shape[::-1]


def _empty(item: h5py.Dataset, where: str) -> np.ndarray:
    shape = _hdf5_shape(item)
    if 0 not in shape:
        raise DataError(f"{where} is marked as empty and has shape {shape}; {_REMEDY}")
    return np.zeros(shape)


def _sparse(item: h5py.Group, where: str) -> np.ndarray:
    """Return a sparse matrix as a full one; one without entries has neither values nor rows."""
    parts = {key: hdf5.read_array(part) for key, part in hdf5.arrays(item).items()}
    values, rows = (parts.get(key, np.zeros(0)) for key in ("data", "ir"))
    columns = (values, rows.astype(np.int64), parts["jc"].astype(np.int64))
    return _full(scipy.sparse.csc_array(columns, shape=_hdf5_shape(item)), where)


def _full(sparse: scipy.sparse.sparray | scipy.sparse.spmatrix, where: str) -> np.ndarray:
    check_memory(math.prod(sparse.shape) * sparse.dtype.itemsize, where)
    try:
        # Without this SciPy writes entries at rows that a damaged file puts outside of the array.
        if hasattr(sparse, "check_format"):
            sparse.check_format(full_check=True)
        return sparse.toarray()
    except ValueError as error:
        raise DataError(f"{where} is no proper sparse array ({error}); {_REMEDY}") from error


def _lacks(path: Path, name: str, names: Sequence[str]) -> str:
    return f"{path} has the arrays {sorted(names)} but lacks {name!r}; check that it is the right file"
