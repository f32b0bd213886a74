"""Progress of a long run: a bar on a terminal, otherwise a line after every tenth of the work."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Advance = Callable[[int], None]


@contextmanager
def show_progress(label: str, total: int, finished: int, enabled: bool = True) -> Iterator[Advance]:
    """Yield a function to call with the number of samples just finished; writes to standard error.

    Arguments: `total` samples, of which an earlier run has `finished` some, which do not count for the time left.
    """
    if not enabled:
        yield lambda count: None
    elif sys.stderr.isatty():
        with _bar() as bar:
            task = bar.add_task(label, total=total, completed=finished)
            yield lambda count: bar.advance(task, count)
    else:
        yield _lines(label, total, finished)


def duration(seconds: float) -> str:
    """Return a time span for people: `48 s`, `3 min 5 s` or `2 h 10 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def _lines(label: str, total: int, finished: int) -> Advance:
    begin, first, reached = time.monotonic(), finished, finished * 10 // total
    print(f"{label}: {finished}/{total} samples", file=sys.stderr, flush=True)

    def advance(count: int) -> None:
        nonlocal finished, reached
        finished += count
        if finished * 10 // total == reached:
            return
        reached = finished * 10 // total
        elapsed = time.monotonic() - begin
        left = elapsed * (total - finished) / (finished - first)
        print(
            f"{label}: {finished}/{total} samples ({100 * finished // total} %), "
            f"{duration(elapsed)} elapsed, {duration(left)} left",
            file=sys.stderr,
            flush=True,
        )

    return advance
