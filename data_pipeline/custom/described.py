"""Samples in arrays of `.npy`, `.mat`, `.npz` or HDF5 files that hold many of them, by a small description in JSON.

    {"arrays": {"points": {"file": "coordinates.npy"}, "pressure": {"file": "fields.mat", "name": "p", "axis": -1}},
     "same": {"cells": {"file": "cells.npy"}}}

Of every array in `arrays` the axis `axis` (0 if not given) counts the samples; arrays in `same` are those of all
samples.
`name` is that of the array in a file of several. The file ends in `.samples.json`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline import hdf5
from data_pipeline.errors import DataError
from data_pipeline.files import read_json
from data_pipeline.matlab import mat_shape, read_mat
from data_pipeline.numpy_files import load_npy, open_npz

SUFFIX = ".samples.json"
_FORM = '{"arrays": {"points": {"file": "x.npy"}, "u": {"file": "u.mat", "name": "u", "axis": -1}}}'
_KEYS = {"file", "name", "axis"}


def is_described(path: Path) -> bool:
    """Return whether a file describes samples in arrays."""
    return path.name.lower().endswith(SUFFIX)


def count_described(path: Path) -> int:
    """Return how many samples a description has; raises DataError, also where its arrays have different numbers."""
    counts = {name: _shape(path, name, entry)[entry.get("axis", 0)] for name, entry in _entries(path)["arrays"].items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise DataError(
            f"the arrays in {path} have different numbers of samples, {listed}; set the axis of each that counts them"
        )
    return next(iter(counts.values()))


def names_described(path: Path) -> list[str]:
    """Return the names of the arrays of a sample; raises DataError."""
    content = _entries(path)
    return [*content["arrays"], *content["same"]]


def read_described(path: Path, number: int, names: list[str]) -> dict[str, np.ndarray]:
    """Return the arrays `names` of sample `number`; raises DataError."""
    content = _entries(path)
    found = {}
    for name in names:
        entry = content["arrays"].get(name)
        if entry is None:
            found[name] = np.array(_array(path, name, content["same"][name]))
            continue
        shape = _shape(path, name, entry)
        axis = entry.get("axis", 0) % len(shape)
        if not 0 <= number < shape[axis]:
            raise DataError(f"{path} has {shape[axis]} samples of {name!r}, and no number {number}; it has changed")
        index = tuple(slice(number, number + 1) if place == axis else slice(None) for place in range(len(shape)))
        found[name] = np.squeeze(_array(path, name, entry, index), axis)
    return found


def _entries(path: Path) -> dict[str, dict[str, dict[str, Any]]]:
    try:
        content = read_json(path)
    except ValueError as error:
        raise DataError(f"{error}; write {_FORM}") from error
    fine = isinstance(content, dict) and content.get("arrays") and set(content) <= {"arrays", "same"}
    parts = {part: content.get(part, {}) for part in ("arrays", "same")} if fine else {}
    for part in parts.values():
        fine = fine and isinstance(part, dict) and all(_is_entry(entry) for entry in part.values())
    if not fine:
        raise DataError(f"{path} is no description of arrays; write {_FORM}")
    outside = next(
        (e["file"] for part in parts.values() for e in part.values() if Path(e["file"]).name != e["file"]), None
    )
    if outside is not None:
        raise DataError(f"{path} names the file {outside!r}; put the files of arrays beside it")
    return parts


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, Mapping)
        and set(entry) <= _KEYS
        and isinstance(entry.get("file"), str)
        and isinstance(entry.get("name", ""), str)
        and type(entry.get("axis", 0)) is int
    )


def _shape(path: Path, name: str, entry: Mapping[str, Any]) -> tuple[int, ...]:
    file, inner = path.with_name(entry["file"]), entry.get("name", name)
    if file.suffix.lower() == ".mat":
        shape = mat_shape(file, inner)
    elif file.suffix.lower() in (".h5", ".hdf5"):
        with hdf5.open_hdf5(file) as opened:
            shape = _dataset(opened, file, inner).shape
    else:
        shape = _array(path, name, entry).shape
    if not -len(shape) <= entry.get("axis", 0) < len(shape):
        raise DataError(
            f"{path} counts the samples of {name!r} along axis {entry.get('axis', 0)} of {shape}; correct it"
        )
    return tuple(shape)


def _array(path: Path, name: str, entry: Mapping[str, Any], index: tuple[slice, ...] = ()) -> np.ndarray:
    """Return an array, or a part of it, of which alone is read what the format allows."""
    file, inner = path.with_name(entry["file"]), entry.get("name", name)
    suffix = file.suffix.lower()
    if suffix == ".npy":
        return np.asarray(load_npy(file, mapped=True)[index])
    if suffix == ".mat":
        return read_mat(file, inner, (None,) * len(mat_shape(file, inner)), index or None)
    if suffix == ".npz":
        with open_npz(file) as archive:
            if inner not in archive.files:
                raise DataError(
                    f"{file} has the arrays {sorted(archive.files)} but lacks {inner!r}; correct {path.name}"
                )
            return archive.read(inner)[index]
    if suffix in (".h5", ".hdf5"):
        with hdf5.open_hdf5(file) as opened:
            return np.asarray(_dataset(opened, file, inner)[index])
    raise DataError(
        f"{path} names {entry['file']!r}, which is of no known format; the suffixes are .npy, .npz, .mat, .h5"
    )


def _dataset(opened: Any, file: Path, name: str) -> Any:
    arrays = hdf5.arrays(opened)
    if name not in arrays:
        raise DataError(f"{file} has the arrays {sorted(arrays)} but lacks {name!r}; correct the description")
    return arrays[name]
