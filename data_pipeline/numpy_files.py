"""Arrays of `.npy` and `.npz` files, whose headers are checked before any memory is asked for."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from zipfile import ZIP_STORED

import numpy as np
from numpy.lib import format as npy
from numpy.lib.npyio import NpzFile

from data_pipeline.errors import DataError
from data_pipeline.sizes import check_claim
from runtime.words import brief

_NUMBERS, _TEXT = "fbiu", "US"
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def load_npy(path: Path, mapped: bool = False) -> np.ndarray:
    """Return the numeric array of a `.npy` file, `mapped` without reading it; raises DataError for any other file."""
    try:
        with path.open("rb") as file:
            _check_header(file, path.stat().st_size, str(path))
        return np.load(path, allow_pickle=False, mmap_mode="r" if mapped else None)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; check the path") from error
    except Exception as error:  # NumPy parses a header as Python, and passes on what that raises for a damaged one
        raise DataError(f"{path} cannot be read as a NumPy array ({brief(error)}); get or write it again") from error


class Archive:
    """An open `.npz` file: `files` are the names of its arrays, and `read` returns one."""

    def __init__(self, path: Path, archive: NpzFile) -> None:
        self._path, self._archive = path, archive
        self.files: list[str] = archive.files

    def read(self, name: str) -> np.ndarray:
        """Return a numeric array by name; raises DataError where it is none or cannot be in the file."""
        return self._read(name, _NUMBERS)

    def read_text(self, name: str) -> np.ndarray:
        """Return an array of text by name; raises DataError where it is none or cannot be in the file."""
        return self._read(name, _TEXT)

    def _read(self, name: str, kinds: str) -> np.ndarray:
        where, members = f"{self._path}[{name}]", self._archive.zip
        member = members.getinfo(name if name in members.namelist() else f"{name}.npy")
        # Both sizes are claims of the archive's directory.
        packed = min(member.compress_size, self._path.stat().st_size)
        check_claim(member.file_size, packed, where, compressed=member.compress_type != ZIP_STORED)
        with members.open(member) as file:
            _check_header(file, member.file_size, where, kinds)
        return self._archive[name]


@contextmanager
def open_npz(path: Path) -> Iterator[Archive]:
    """Open a `.npz` file; raises DataError for a file of another kind, and for a damaged one while it is read."""
    try:
        with _load(path) as archive:
            yield Archive(path, archive)
    except DataError:
        raise
    except Exception as error:  # zip, decompression, header: each raises its own for damaged files
        raise DataError(f"{path} cannot be read as an npz archive ({brief(error)}); get the file again") from error


def _load(path: Path) -> NpzFile:
    try:
        with path.open("rb") as file:
            kind = file.read(6)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; check the path") from error
    if kind == npy.MAGIC_PREFIX:
        raise DataError(f"{path} holds one array without a name, like a .npy file; write it with np.savez")
    if kind[:2] != b"PK":
        # NumPy would take any text for pickled objects, and say how to load these.
        raise DataError(
            f"{path} cannot be read as an npz archive (it is no zip file); get it again or write it with np.savez"
        )
    return np.load(path, allow_pickle=False)


def _check_header(file: BinaryIO, size: int, where: str, kinds: str = _NUMBERS) -> None:
    """Raise DataError unless the header of an array, in `size` bytes, is that of numbers which fit into them.

    `kinds` are NumPy's letters of the types that are taken for numbers.
    """
    start = file.read(len(npy.MAGIC_PREFIX))
    if start[:2] == b"PK":
        raise DataError(f"{where} is an npz archive of named arrays; unpack it, or write the array with np.save")
    version = tuple(file.read(2))
    if start != npy.MAGIC_PREFIX or version not in _HEADERS:
        raise DataError(f"{where} is no array of numbers as np.save writes it; get the file again")
    shape, _, dtype = _HEADERS[version](file)
    if dtype.kind not in kinds:
        raise DataError(f"{where} has dtype {dtype}, which is not numeric; check that it is the right file")
    if any(length < 0 for length in shape):
        raise DataError(f"{where} claims shape {shape}; it is damaged, get it again")
    claimed = math.prod(shape) * dtype.itemsize
    check_claim(claimed, size - file.tell(), where)
