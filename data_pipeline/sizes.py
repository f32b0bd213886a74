"""Sizes that a file claims, held against the bytes it has, before memory is asked for."""

import os

from data_pipeline.errors import DataError

# Deflate, which zip files, HDF5 and MATLAB use, makes its input smaller by a factor of 1032 at most.
MOST_COMPRESSION = 1100


def check_claim(claimed: int, stored: int, where: str, compressed: bool = False) -> None:
    """Raise DataError where an array of `claimed` bytes cannot be in the `stored` bytes of a file, or in memory."""
    if claimed > stored * (MOST_COMPRESSION if compressed else 1):
        raise DataError(
            f"{where} claims {claimed} bytes, but the file holds {stored} of it; it is damaged or incomplete, get or "
            "write it again"
        )
    check_memory(claimed, where)


def check_memory(size: int, where: str) -> None:
    """Raise DataError where an array of `size` bytes is larger than the memory of this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise DataError(
            f"{where} needs {size / 2**30:.1f} GiB, more than the memory of this machine ({memory / 2**30:.1f} GiB); "
            "take a smaller part of the data"
        )
