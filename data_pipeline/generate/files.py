"""Writing a data set so that a killed run leaves either nothing or complete files, always marked as generated."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

SOURCE = "SOURCE.json"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process; raises ValueError while another process generates into it.

    The lock is on the folder itself, so that it leaves no file and ends with the process, however that ends.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"another process is generating into {str(folder)!r}; wait for it or choose another out folder"
            ) from None
        except OSError:
            pass  # Some network file systems have no locks; every file is still written atomically.
        yield
    finally:
        os.close(descriptor)


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
        source = json.loads((folder / SOURCE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return source if isinstance(source, dict) else {}


def chunk_path(folder: Path, indices: range) -> Path:
    """Return the file that keeps the finished samples `indices`."""
    return folder / f"{indices.start:08d}-{indices.stop:08d}.npz"


def write_atomic(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Call `write` with a temporary file beside `path`, then move it to `path` once it is on disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def publish(staging: Path, folder: Path, names: Sequence[str], source: dict[str, Any]) -> None:
    """Move the files `names` from `staging` to `folder` on the same file system, and mark them with SOURCE.json.

    SOURCE.json is written twice: before the first file as incomplete, so that there is no moment at which generated
    files could pass for public ones, and after the last one as complete. Files of an earlier run go before the first
    new one arrives, so that old and new are never mixed.
    """
    for name in names:
        _sync(staging / name)
    _write_source(folder, {"generated": True, "complete": False, **source})
    for name in names:
        _remove(folder / name)
    for name in names:
        os.replace(staging / name, folder / name)
    _sync(folder)
    _write_source(folder, {"generated": True, "complete": True, **source})


def _remove(path: Path) -> None:
    """Remove a file or a folder of files, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _write_source(folder: Path, source: dict[str, Any]) -> None:
    text = json.dumps(source, indent=2, ensure_ascii=False) + "\n"
    write_atomic(folder / SOURCE, lambda file: file.write(text.encode()))
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
