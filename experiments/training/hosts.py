"""Several processes as one program: process 0 writes files and speaks, the others wait for it where they must."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jax
import numpy as np
from jax.experimental import multihost_utils

Say = Callable[[str], None]


def is_main() -> bool:
    """Return whether this process writes files and prints."""
    return jax.process_index() == 0


def say(text: str) -> None:
    """Print a line, once for all processes."""
    if is_main():
        print(text, flush=True)


def silent(text: str) -> None:
    """Print nothing, where it was said already."""


def largest(number: int) -> int:
    """Return the largest of the numbers that the processes give; all of them must call this together."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.process_allgather(np.int32(number)).max())


@contextmanager
def main_first(what: str) -> Iterator[None]:
    """Run the block on process 0 first and on the others after it, so that they find the files it makes."""
    if jax.process_count() > 1 and not is_main():
        multihost_utils.sync_global_devices(what)
    yield
    if jax.process_count() > 1 and is_main():
        multihost_utils.sync_global_devices(what)
