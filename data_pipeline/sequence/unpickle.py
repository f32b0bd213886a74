"""A reader of pickles of plain values and numeric arrays, in which a file can call nothing and build nothing else.

The names by which pickles make NumPy arrays stand here for small functions of this module, which check every argument
and make arrays of the bytes themselves: no state that a file gives reaches a dtype of NumPy, no type can be called, and
objects, structures, times and texts are refused. Of the instructions of a pickle those are known that write plain
values and arrays. It is the machine of the standard library that is written in Python: the one in C gives a file as
much memory as it asks for.
"""

import math
import mmap
import pickle
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.errors import DataError
from runtime.words import brief

_KINDS = re.compile(r"b1|[iu][1248]|f[248]")
_ORDERS = ("<", ">", "=", "|")
_PLAIN_STATE = (None, None, None, -1, -1, 0)  # no subtype, names, fields, size, alignment and flags of its own
# Instructions for plain values, containers, the memo and frames; those for calls and states are in the class below.
_INSTRUCTIONS = (
    "NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING "
    "SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 EMPTY_LIST LIST "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET DUP "
    "MARK POP POP_MARK PROTO FRAME GLOBAL STACK_GLOBAL STOP"
)


def read_pickle(path: Path, encoding: str = "ASCII") -> Any:
    """Return the content of a pickle of plain values and numeric arrays; raises DataError for any other."""
    try:
        # A memory map never reads more than there is, whatever length the file claims.
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _ArraysOnly(content, encoding).load()
    except Exception as error:  # pickle raises many types for damaged files
        reason = brief(error)
        raise DataError(f"{path} cannot be read as a pickle of arrays ({reason}); get the file again") from error


def as_integers(value: Any) -> np.ndarray:
    """Return an array, a flat list of integers, or one integer, as int64 [N]; raises ValueError for anything else."""
    if isinstance(value, (list, tuple)) and len(value) == 1 and isinstance(value[0], (list, tuple, np.ndarray)):
        value = value[0]
    if isinstance(value, (list, tuple)) and not all(isinstance(item, (int, np.integer)) for item in value):
        raise ValueError("a list holds something else than integers")
    if not isinstance(value, (int, list, tuple, np.integer, np.ndarray)):
        raise ValueError(f"{type(value).__name__} where integers are expected")
    array = np.asarray(value)
    try:
        with np.errstate(invalid="ignore"):  # of NaN, which then differs
            integers = array.astype(np.int64)
    except (OverflowError, TypeError) as error:
        raise ValueError("a number is too large for 64 bits") from error
    if not np.array_equal(integers, array):
        raise ValueError("it holds numbers that are no integers of 64 bits")
    return integers.reshape(-1)


def integer_rows(values: Iterable[Any], size: int) -> list[np.ndarray]:
    """Return `as_integers` of each value; raises ValueError where they are together more than `size`.

    With the size of the file in bytes that finds one which refers to a row again and again.
    """
    rows = []
    for value in values:
        rows.append(as_integers(value))
        size -= len(rows[-1])
        if size < 0:
            raise ValueError("more integers than the file has bytes")
    return rows


class _Name:
    """What a name in a pickle stands for: a function to call with values, or nothing but a name."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any] | None) -> None:
        self.call = call


class _Kind:
    """A numeric dtype in the making; its state may set the order of the bytes."""

    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "="

    def set_state(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 8 or state[0] != 3 or state[2:] != _PLAIN_STATE:
            raise pickle.UnpicklingError("it sets the state of a dtype that is not a plain number")
        order = _text(state[1])
        if order not in _ORDERS:
            raise pickle.UnpicklingError("it sets a byte order that does not exist")
        self.order = order

    def dtype(self) -> np.dtype:
        return np.dtype(self.order + self.code)


class _Instructions(dict[int, Callable[..., Any]]):
    def __missing__(self, code: int) -> None:
        raise pickle.UnpicklingError(
            f"it has an instruction, {bytes([code])!r}, that plain values and arrays do not need"
        )


class _ArraysOnly(pickle._Unpickler):
    """The machine; of each array it makes there must be as many bytes in the file."""

    def __init__(self, content: mmap.mmap, encoding: str) -> None:
        super().__init__(content, encoding=encoding)
        self._bytes_left = len(content)
        self._unfilled: dict[int, np.ndarray] = {}
        array = _Name(None)
        self._names = {
            ("numpy", "ndarray"): array,
            ("numpy", "dtype"): _Name(_kind),
            ("_codecs", "encode"): _Name(_encode),
        }
        for module in ("builtins", "__builtin__"):
            self._names[module, "bytes"] = _Name(_no_bytes)
        for package in ("numpy.core", "numpy._core"):
            self._names[f"{package}.multiarray", "_reconstruct"] = _Name(self._new_array)
            self._names[f"{package}.multiarray", "scalar"] = _Name(self._scalar)
            self._names[f"{package}.numeric", "_frombuffer"] = _Name(self._from_buffer)

    def find_class(self, module: str, name: str) -> _Name:
        if (module, name) not in self._names:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array")
        return self._names[module, name]

    def _call(self) -> None:
        arguments, function = self.stack.pop(), self.stack[-1]
        if not isinstance(function, _Name) or function.call is None or not isinstance(arguments, tuple):
            raise pickle.UnpicklingError("it calls something that is no function of arrays")
        self.stack[-1] = function.call(*arguments)

    def _set_state(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Kind):
            target.set_state(state)
        elif self._unfilled.pop(id(target), None) is not None:
            self._fill(target, state)
        else:
            raise pickle.UnpicklingError(f"it sets the state of a {type(target).__name__}")

    def _new_array(self, kind: Any, shape: Any, code: Any) -> np.ndarray:
        if kind is not self._names["numpy", "ndarray"] or shape != (0,) or _text(code) != "b":
            raise pickle.UnpicklingError("it begins an array of an unusual kind")
        array = np.empty(0, np.int8)
        self._unfilled[id(array)] = array
        return array

    def _fill(self, array: np.ndarray, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or state[0] != 1:
            raise pickle.UnpicklingError("it sets an unknown state of an array")
        _, shape, kind, fortran, content = state
        dtype = self._array(content, kind, shape).dtype
        # The same object, for the pickle may refer to it elsewhere; all that NumPy is given here has been checked.
        array.__setstate__((1, shape, dtype, bool(fortran), content))

    def _scalar(self, kind: Any, content: Any) -> np.generic:
        return self._array(content, kind, ())[()]

    def _from_buffer(self, content: Any, kind: Any, shape: Any, order: Any, axes: Any = None) -> np.ndarray:
        values = self._array(content, kind, shape)
        if order == "K" and isinstance(axes, tuple) and sorted(axes) == list(range(values.ndim)):
            return values.transpose(axes)
        if order not in ("C", "F"):
            raise pickle.UnpicklingError("it gives an array an unknown order")
        return values.reshape(-1).reshape(shape, order=order)

    def _array(self, content: Any, kind: Any, shape: Any) -> np.ndarray:
        """Return an array of the bytes `content`, with the last axis fastest."""
        if not isinstance(kind, _Kind) or not isinstance(content, bytes):
            raise pickle.UnpicklingError("it makes an array of something else than bytes and a numeric dtype")
        if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
            raise pickle.UnpicklingError("it gives an array a shape that is none")
        dtype = kind.dtype()
        if len(shape) > 8 or math.prod(shape) * dtype.itemsize != len(content):
            raise pickle.UnpicklingError(f"it gives {len(content)} bytes to an array of another size")
        self._bytes_left -= len(content)
        if self._bytes_left < 0:
            raise pickle.UnpicklingError("its arrays are larger than the file")
        return np.frombuffer(content, dtype).reshape(shape)

    def _bytearray(self) -> None:
        self.append(self.read(int.from_bytes(self.read(8), "little")))

    def _append(self) -> None:
        value = self.stack.pop()
        self._top(list).append(value)

    def _extend(self) -> None:
        values = self.pop_mark()
        self._top(list).extend(values)

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._top(dict)[key] = value

    def _set_items(self) -> None:
        values = self.pop_mark()
        self._top(dict).update(zip(values[::2], values[1::2], strict=True))

    def _top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise pickle.UnpicklingError(f"it adds to a {type(self.stack[-1]).__name__} as to a {kind.__name__}")
        return self.stack[-1]

    dispatch = _Instructions(
        {
            **{
                getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]]
                for name in _INSTRUCTIONS.split()
            },
            pickle.REDUCE[0]: _call,
            pickle.BUILD[0]: _set_state,
            pickle.BYTEARRAY8[0]: _bytearray,
            pickle.APPEND[0]: _append,
            pickle.APPENDS[0]: _extend,
            pickle.SETITEM[0]: _set_item,
            pickle.SETITEMS[0]: _set_items,
        }
    )


def _kind(code: Any, align: Any = False, copy: Any = False) -> _Kind:
    if not _KINDS.fullmatch(_text(code)):
        raise pickle.UnpicklingError(f"it holds an array of dtype {_text(code)[:20]!r}, which is not numeric")
    return _Kind(_text(code))


def _encode(text: Any, encoding: Any) -> bytes:
    """Return bytes that protocol 2 keeps as text."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("it encodes something else than bytes")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Return what protocol 0 writes for an array without values."""
    return b""


def _text(value: Any) -> str:
    """Return text, which Python 2 wrote as bytes."""
    if isinstance(value, bytes):
        return value.decode("latin1")
    if not isinstance(value, str):
        raise pickle.UnpicklingError("it gives something else than a text where a name is expected")
    return value
