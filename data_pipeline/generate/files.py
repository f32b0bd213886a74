"""Writing a data set so that a killed run leaves either nothing or complete files, always marked as generated."""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from runtime.files import remove, sync
from runtime.json_files import read_object, write_json
from runtime.locks import locked

SOURCE = "SOURCE.json"


def held(folder: Path) -> AbstractContextManager[None]:
    """Hold `folder` for this process; raises ValueError while another process generates into it."""
    return locked(
        folder, f"another process is generating into {str(folder)!r}; wait for it or choose another out folder"
    )


def check_replaceable(folder: Path, names: Sequence[str], overwrite: bool) -> None:
    """Raise ValueError when writing `names` into `folder` would destroy data that must or should be kept.

    Files that no SOURCE.json marks as generated are never replaced: they may be the public data set. Generated ones are
    replaced with `overwrite`, or when the run that wrote them was stopped half-way.
    """
    existing = [name for name in names if (folder / name).exists()]
    source = read_source(folder)
    if not source.get("generated"):
        # A SOURCE.json of another kind describes data that this program did not write.
        existing += [SOURCE] if (folder / SOURCE).exists() else []
        if existing:
            raise ValueError(
                f"{existing[0]} in {str(folder)!r} is not marked as generated and may belong to the public data set; "
                "it is never replaced: choose another out folder or move it away"
            )
    elif existing and source.get("complete") and not overwrite:
        raise ValueError(
            f"generated {source.get('dataset', 'data')} files already exist in {str(folder)!r}; "
            "pass --overwrite (overwrite=True) to replace them or choose another out folder"
        )


def read_source(folder: Path) -> dict[str, Any]:
    """Return the contents of SOURCE.json, empty when it is missing or not a JSON object."""
    try:
        return read_object(folder / SOURCE)
    except (FileNotFoundError, ValueError):
        return {}


def chunk_path(folder: Path, indices: range) -> Path:
    """Return the file that keeps the finished samples `indices`."""
    return folder / f"{indices.start:08d}-{indices.stop:08d}.npz"


def publish(staging: Path, folder: Path, names: Sequence[str], source: dict[str, Any]) -> None:
    """Move the files `names` from `staging` to `folder` on the same file system, and mark them with SOURCE.json.

    SOURCE.json is written twice: before the first file as incomplete, so that there is no moment at which generated
    files could pass for public ones, and after the last one as complete. Files of an earlier run go before the first
    new one arrives, so that old and new are never mixed.
    """
    for name in names:
        sync(staging / name)
    _write_source(folder, {"generated": True, "complete": False, **source})
    for name in names:
        remove(folder / name)
    for name in names:
        os.replace(staging / name, folder / name)
    sync(folder)
    _write_source(folder, {"generated": True, "complete": True, **source})


def _write_source(folder: Path, source: dict[str, Any]) -> None:
    write_json(folder / SOURCE, source)
    sync(folder)
