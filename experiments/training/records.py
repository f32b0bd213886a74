"""The run's log: one JSON object a line in metrics.jsonl, and progress on the console."""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from experiments.training.trackers import Tracker, feed
from runtime.files import write_text
from runtime.json_files import decode_object, encode, finite


class MetricsLog:
    """Appends to `metrics.jsonl`; lines of steps after `resume_step` are dropped, for they will be made again.

    So is that of step 0 where a run begins anew. Without a path nothing is written: of several processes one keeps the
    log. `say` is told of damaged lines. `trackers` are given every line of the log, those of before first.
    """

    def __init__(
        self,
        path: Path | None,
        resume_step: int,
        say: Callable[[str], None] = print,
        trackers: Sequence[Tracker] = (),
    ) -> None:
        self._path, self._say, self._trackers = path, say, list(trackers)
        if path is not None and path.exists():
            kept = [line for line in read_log(path, say) if 0 < resume_step >= line["step"]]
            write_text(path, "".join(encode(line) + "\n" for line in kept))
            for line in kept:
                feed(self._trackers, line, say)

    def write(self, event: str, step: int, values: dict[str, Any]) -> None:
        """Append one line; null stands for numbers that are not finite."""
        if self._path is None:
            return
        line = {"event": event, "step": step, **values}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(encode(line) + "\n")
        feed(self._trackers, finite(line), self._say)

    def close(self) -> None:
        """Let the trackers write what is left."""
        for tracker in self._trackers:
            tracker.close()


def read_log(path: Path, say: Callable[[str], None] = print) -> list[dict[str, Any]]:
    """Return the lines of a metrics.jsonl, none where there is no file.

    Damaged lines are left out, and `say` is told of them. A last line without an end was cut off by the end of its
    program, which is no damage.
    """
    if not path.exists():
        return []
    lines, damaged = [], []
    texts = path.read_bytes().split(b"\n")
    for number, text in enumerate(texts, start=1):
        line = _log_line(text)
        if line is not None:
            lines.append(line)
        elif number < len(texts):
            damaged.append(number)
    if damaged:
        say(f"warning: lines {_listed(damaged)} of {path} are damaged and left out; the other {len(lines)} are used")
    return lines


def curve(log: Sequence[Mapping[str, Any]], event: str, name: str) -> tuple[list[float], list[float]]:
    """Return epochs and values of `name` over the lines of an event, of those that have finite numbers for both."""
    lines = [line for line in log if line["event"] == event]
    points = [(line["epoch"], line[name]) for line in lines if _is_number(line.get("epoch"), line.get(name))]
    return [epoch for epoch, _ in points], [value for _, value in points]


def _is_number(*values: Any) -> bool:
    return all(isinstance(value, int | float) and math.isfinite(value) for value in values)


def _log_line(text: bytes) -> dict[str, Any] | None:
    try:
        line = decode_object(text.decode())
    except ValueError:
        return None
    sound = isinstance(line.get("event"), str) and type(line.get("step")) is int
    return line if sound else None


def _listed(numbers: list[int], most: int = 5) -> str:
    return ", ".join(map(str, numbers[:most])) + (f" and {len(numbers) - most} more" if len(numbers) > most else "")


class Console:
    """A progress bar on a terminal, plain lines elsewhere; messages go above the bar. `quiet` prints nothing."""

    def __init__(self, total: int, done: int, quiet: bool = False, interval: float = 10.0) -> None:
        self._total, self._interval, self._last, self._quiet = total, interval, -math.inf, quiet
        self._start: tuple[float, int] | None = None
        self._progress: Progress | None = None
        if sys.stdout.isatty() and not quiet:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._progress = Progress(*columns)
            self._task = self._progress.add_task("training", total=total, completed=done)
            self._progress.start()

    def say(self, text: str) -> None:
        """Print one line."""
        if self._quiet:
            return
        if self._progress:
            self._progress.console.print(text, markup=False, highlight=False)
        else:
            print(text, flush=True)

    def advance(self, step: int, text: str) -> None:
        """Show that `step` steps are done; on plain consoles at most one line per `interval` seconds.

        The time that is left is that of the steps since the first call, for before it the step was compiled.
        """
        if self._progress:
            self._progress.update(self._task, completed=step, description=text)
            return
        now = time.monotonic()
        start, start_step = self._start = self._start or (now, step)
        if now - self._last >= self._interval:
            self._last = now
            rate = (step - start_step) / max(now - start, 1e-9)
            left = f"  {clock((self._total - step) / rate)} left" if rate > 0 else ""
            self.say(f"step {step}/{self._total}  {text}{left}")

    def stop(self) -> None:
        """Take the bar off the terminal."""
        if self._progress:
            self._progress.stop()


def clock(seconds: float) -> str:
    """Return a time as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
