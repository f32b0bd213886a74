"""Several processes as one program: process 0 writes files and speaks, the others wait for it where they must."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jax
import numpy as np
from jax.experimental import multihost_utils

from experiments.errors import UserError
from runtime import peers, signals

Say = Callable[[str], None]


def join(coordinator_address: str, count: int, number: int) -> None:
    """Make this process number `number` of the `count` of a run, all of which end where one is lost.

    `coordinator_address` is a free host:port of process 0. Raises UserError where the processes do not find each other.
    """
    # Before JAX opens its own connections, so that the system closes ours first where this process is killed.
    server = peers.listen() if number == 0 else None
    try:
        jax.distributed.initialize(coordinator_address, count, number)
        signals.renew()  # JAX's service for several hosts takes SIGTERM for itself
        port = int(multihost_utils.broadcast_one_to_all(np.int32(server.getsockname()[1] if server else 0)))
        if server is not None:
            peers.accept(server, count)
        else:
            peers.connect(coordinator_address.rpartition(":")[0].strip("[]"), port, number, count)
    except (RuntimeError, OSError) as error:
        raise UserError(
            f"the {count} processes of --coordinator_address={coordinator_address} do not find each other "
            f"({' '.join(str(error).split())[:200]}); start all of them, with a free port of the host of process 0"
        ) from error


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
