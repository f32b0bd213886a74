"""Arrays of MATLAB files of version 5, as described in MathWorks' "MAT-File Format".

SciPy reads these too, but ends the process where a damaged file names a type that there is not. Only numeric arrays are
read here, full and sparse ones, with every size and type checked.
"""

import math
import mmap
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse

from data_pipeline.errors import DataError
from data_pipeline.sizes import check_claim

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_SPARSE, _OPAQUE = 5, 17
_OTHERS = {1: "a cell array", 2: "a structure", 3: "an object", 4: "a text", 16: "a function"}
_COMPLEX = 8
_START = 4096  # bytes of a compressed variable that hold its name and shape


@dataclass(frozen=True)
class _Variable:
    """A variable whose beginning has been read; `body` are its bytes from the flags on, or what gives them."""

    name: str
    kind: int
    flags: int
    shape: tuple[int, ...]
    body: memoryview
    compressed: bool
    order: str


def list_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all variables of a file by name; raises DataError for a damaged file."""
    with _variables(path) as variables:
        return {variable.name: variable.shape for variable in variables}


def read_variable(path: Path, name: str) -> np.ndarray | scipy.sparse.csc_array | None:
    """Return a numeric array by name, None where there is none; raises DataError for damaged and other contents."""
    with _variables(path) as variables:
        found = next((variable for variable in variables if variable.name == name), None)
        return None if found is None else _values(found, f"{path}[{name}]")


@contextmanager
def _variables(path: Path) -> Iterator[Iterator[_Variable]]:
    try:
        with path.open("rb") as file:
            # Mapped, not read, for a file may hold much else; the map goes with the last view of it.
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        yield _beginnings(content)
    except DataError:
        raise
    except (OSError, ValueError, struct.error, zlib.error) as error:
        raise DataError(f"{path} cannot be read as a MATLAB file ({error}); download or generate it again") from error


def _beginnings(content: memoryview) -> Iterator[_Variable]:
    order = {b"IM": "<", b"MI": ">"}.get(bytes(content[_HEADER - 2 : _HEADER]))
    if order is None:
        raise ValueError("it has no header of one")
    at = _HEADER
    while at < len(content):
        kind, size = struct.unpack(f"{order}II", content[at : at + 8])
        if at + 8 + size > len(content):
            raise ValueError(f"it ends after {len(content)} of {at + 8 + size} bytes")
        body = content[at + 8 : at + 8 + size]
        at += 8 + size
        if kind not in (_MATRIX, _COMPRESSED):
            raise ValueError(f"a variable is of type {kind}, which does not exist")
        start = zlib.decompressobj().decompress(body, _START)[8:] if kind == _COMPRESSED else body
        variable = _beginning(start, body, kind == _COMPRESSED, order)
        if variable is not None:
            yield variable


def _beginning(start: bytes | memoryview, body: memoryview, compressed: bool, order: str) -> _Variable | None:
    """Return what the first parts say; None for the objects of newer classes, which have no shape."""
    parts = _parts(memoryview(start), order)
    word, _ = struct.unpack(f"{order}II", next(parts, (0, b""))[1])
    if word & 0xFF == _OPAQUE:
        return None
    (dims_type, dims), (name_type, name) = next(parts, (0, b"")), next(parts, (0, b""))
    if dims_type != 5 or name_type != 1 or len(dims) < 8:
        raise ValueError("a variable has no shape or no name")
    shape = tuple(int(size) for size in np.frombuffer(dims, f"{order}i4"))
    if min(shape) < 0:
        raise ValueError(f"a variable has shape {shape}")
    return _Variable(bytes(name).decode("latin1"), word & 0xFF, word >> 8 & 0xFF, shape, body, compressed, order)


def _parts(content: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Yield type and bytes of the parts of a variable; those of up to four bytes are packed with their type."""
    at = 0
    while at < len(content):
        (kind,) = struct.unpack(f"{order}I", content[at : at + 4])
        if kind >> 16:
            first, size, step = at + 4, kind >> 16, 8
            kind &= 0xFFFF
            if size > 4:
                raise ValueError(f"a part of four bytes claims {size}")
        else:
            (size,) = struct.unpack(f"{order}I", content[at + 4 : at + 8])
            first, step = at + 8, 8 + size + -size % 8
        if first + size > len(content):
            raise ValueError(f"a part claims {size} bytes, more than its variable has")
        yield kind, content[first : first + size]
        at += step


def _values(variable: _Variable, where: str) -> np.ndarray | scipy.sparse.csc_array:
    if variable.kind not in (*_CLASSES, _SPARSE):
        what = _OTHERS.get(variable.kind, f"of class {variable.kind}")
        raise DataError(f"{where} is {what}, which is not numeric; check that it is the right file")
    if variable.flags & _COMPLEX:
        raise DataError(f"{where} has complex numbers; check that it is the right file")
    parts = list(_parts(_whole(variable, where), variable.order))[3:]
    count = 3 if variable.kind == _SPARSE else 1
    if len(parts) != count:
        raise ValueError(f"{len(parts)} arrays are stored for {where} where {count} are expected")
    arrays = [_numbers(*part, variable.order) for part in parts]
    if variable.kind == _SPARSE:
        rows, columns, values = arrays
        used = int(columns[-1]) if len(columns) else 0  # room for more entries may have been kept
        return scipy.sparse.csc_array((values[:used], rows[:used], columns), shape=variable.shape)
    if arrays[0].size != math.prod(variable.shape):
        raise ValueError(f"{arrays[0].size} numbers are stored for {where} of shape {variable.shape}")
    return arrays[0].astype(_CLASSES[variable.kind]).reshape(variable.shape, order="F")


def _whole(variable: _Variable, where: str) -> memoryview:
    """Return all bytes of a variable from its flags on."""
    if not variable.compressed:
        return variable.body
    decompressor = zlib.decompressobj()
    _, size = struct.unpack(f"{variable.order}II", decompressor.decompress(variable.body, 8))
    check_claim(size, len(variable.body), where, compressed=True)
    content = decompressor.decompress(decompressor.unconsumed_tail, size) if size else b""
    if len(content) != size:
        raise ValueError(f"{where} decompresses to {len(content)} bytes where {size} are expected")
    return memoryview(content)


def _numbers(kind: int, content: memoryview, order: str) -> np.ndarray:
    if kind not in _TYPES:
        raise ValueError(f"numbers are of type {kind}, which does not exist")
    return np.frombuffer(content, order + _TYPES[kind])
