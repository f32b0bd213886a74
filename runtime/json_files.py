"""JSON as the standard has it: written whole, without NaN and infinity, and checked to be an object when read."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runtime.files import write_text


def encode(content: Any, indent: int | None = None, default: Callable[[Any], Any] | None = None) -> str:
    """Return `content` as JSON, with null for numbers that are not finite.

    `default` gives what stands for values of types that JSON has not; without it they raise TypeError.
    """
    return json.dumps(finite(content), indent=indent, default=default, ensure_ascii=False, allow_nan=False)


def write_json(path: Path, content: Any, default: Callable[[Any], Any] | None = None) -> None:
    """Write JSON for people, whole or not at all; the arguments are those of `encode`."""
    write_text(path, encode(content, indent=2, default=default) + "\n")


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; raises OSError, or ValueError where it holds anything else."""
    return decode_object(path.read_text(encoding="utf-8"))


def decode_object(text: str) -> dict[str, Any]:
    """Return the JSON object that `text` is; raises ValueError for anything else."""
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError(f"it holds a JSON {_kind(content)} where an object is expected")
    return content


def finite(value: Any) -> Any:
    """Return what JSON can hold of `value`: null, in Python None, stands for numbers that are not finite."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return value


def _kind(value: Any) -> str:
    kinds = {list: "list", str: "string", bool: "boolean", int: "number", float: "number", type(None): "null"}
    return kinds[type(value)]
