"""One process at a time in a folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(folder: Path, busy: str | None) -> Iterator[None]:
    """Hold `folder` for this process; where another holds it raise ValueError(busy), or wait for it where that is None.

    The lock is on the folder itself, so that it leaves no file and ends with the process, however that ends. Where a
    network file system has no locks there is none: every file is still written whole.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if busy is None else fcntl.LOCK_NB))
        except BlockingIOError:
            raise ValueError(busy) from None
        except OSError:
            pass
        yield
    finally:
        os.close(descriptor)
