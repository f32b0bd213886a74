"""The safetensors file format, read and written with NumPy alone.

A file is the length of a header (8 bytes, little endian), the header as JSON (name → dtype, shape, byte range), and the
arrays. Nothing in it can be executed, which is why it is also the format of converted parameters. It is so small that
these lines take the place of a dependency.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(jnp.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_ALIGNMENT = 8
_LARGEST_HEADER = 100 * 2**20


def write_safetensors(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays; raises ValueError for a dtype that the format lacks."""
    header: dict[str, Any] = {}
    start = 0
    for name, array in arrays.items():
        if array.dtype not in _NAMES:
            raise ValueError(
                f"array {name!r} has dtype {array.dtype}, which safetensors cannot hold; convert it to float32"
            )
        end = start + array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array).tobytes())


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file by name; raises ValueError if it is cut off or not of this format."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(_LARGEST_HEADER, len(content) - 8):
        raise ValueError(f"{path} is cut off or not a safetensors file; get the file again")
    try:
        header = json.loads(content[8 : 8 + length])
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        data = memoryview(content)[8 + length :]
        return {name: _read_entry(name, entry, data) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is cut off or not a safetensors file ({error}); get the file again") from error


def _read_entry(name: str, entry: Mapping[str, Any], data: memoryview) -> np.ndarray:
    dtype, shape, (start, end) = _DTYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
    if not 0 <= start <= end <= len(data) or end - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"the bytes of {name!r} do not fit its shape {shape}")
    return np.frombuffer(data[start:end], dtype).reshape(shape).copy()
