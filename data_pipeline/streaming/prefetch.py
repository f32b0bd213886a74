"""Computing the next items of a sequence in threads while the present one is in use."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Prefetcher(Generic[Item, Result]):
    """Iterates over `load(item)` in the order of `items`, of which up to `ahead` are computed in advance.

    Errors of `load` are raised where its result would be returned. A context manager: leaving it abandons what was not
    asked for.
    """

    def __init__(self, load: Callable[[Item], Result], items: Iterable[Item], *, ahead: int, workers: int) -> None:
        if ahead < 1 or workers < 1:
            raise ValueError(f"ahead={ahead} and workers={workers} must be at least 1; raise them")
        self._load, self._items, self._ahead = load, iter(items), ahead
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="prefetch")
        self._pending: deque[Future[Result]] = deque()

    def __enter__(self) -> "Prefetcher[Item, Result]":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Result]:
        return self

    def __next__(self) -> Result:
        self.start()
        if not self._pending:
            raise StopIteration
        result = self._pending.popleft().result()
        # Before the caller computes with this one, so that the threads have its whole time.
        self.start()
        return result

    def start(self) -> None:
        """Begin to compute as many results in advance as there may be; asking for a result does that too."""
        while len(self._pending) < self._ahead:
            try:
                item = next(self._items)
            except StopIteration:
                return
            self._pending.append(self._pool.submit(self._load, item))

    def close(self) -> None:
        """Abandon pending items and wait for the one that each thread is at."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pending.clear()
