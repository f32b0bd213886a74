"""Files that are written whole or not at all."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from runtime import signals

_LEFTOVERS = ".*.tmp*"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; what the block makes there, file or folder, then takes the place of `path`.

    The temporary name ends in the suffix of `path`, by which some writers choose their format. A file is on disk before
    it gets its name. Where the block raises, or the program is ended by a signal, nothing is left; after a kill -9 a
    hidden file is, which `remove_leftovers` removes. The parent folder must exist.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    remove(temporary)
    try:
        with signals.undone_at_end(lambda: remove(temporary)):
            yield temporary
            if not temporary.is_dir():
                sync(temporary)
            elif path.is_dir():
                path.rmdir()  # only an empty folder is replaced
            os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            remove(temporary)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Return a sum over the content of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def remove_leftovers(folder: Path) -> None:
    """Remove what killed programs left in `folder`; call it where no other program can be writing there."""
    for leftover in folder.glob(_LEFTOVERS):
        remove(leftover)


def remove(path: Path) -> None:
    """Remove a file, or a folder with its content, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
