"""For how long a device had nothing to do because its next batch was not there."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import jax

Item = TypeVar("Item")


class IdleClock:
    """Counts the seconds between the end of a step and the arrival of the next batch.

    Waiting for a batch while the device still computes costs nothing and is not counted: steps are dispatched ahead, so
    the host waits most of the time either way. A thread notes when each step ends.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="idle-clock")
        self._waits: list[tuple[float, float, Future[float] | None]] = []
        self._last: Future[float] | None = None

    def take(self, batches: Iterator[Item]) -> Item:
        """Return the next batch, for a step that begins after those given to `started`."""
        wanted = time.perf_counter()
        batch = next(batches)
        self._waits.append((wanted, time.perf_counter(), self._last))
        return batch

    def started(self, results: Any) -> None:
        """Note the step that computes `results`, which has just been dispatched."""
        self._last = self._pool.submit(_end_of, results)

    def seconds(self) -> float:
        """Return the seconds since the last call of this function, once all steps have ended."""
        idle = [
            arrived - max(wanted, wanted if before is None else before.result())
            for wanted, arrived, before in self._waits
        ]
        self._waits, self._last = [], None
        return sum(max(0.0, one) for one in idle)

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()


def _end_of(results: Any) -> float:
    jax.block_until_ready(results)
    return time.perf_counter()
