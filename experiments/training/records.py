"""The run's log: one JSON object a line in metrics.jsonl, and progress on the console."""

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def write_json(path: Path, content: Any) -> None:
    """Write JSON through a temporary file, so that a reader never sees half of it."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(content, indent=2, sort_keys=False) + "\n")
    os.replace(temporary, path)


class MetricsLog:
    """Appends to `metrics.jsonl`; lines of steps after `resume_step` are dropped, for they will be made again.

    Without a path nothing is written: of several processes one keeps the log.
    """

    def __init__(self, path: Path | None, resume_step: int) -> None:
        self._path = path
        if path is not None and path.exists():
            kept = [line for line in read_log(path) if line["step"] <= resume_step]
            temporary = path.with_name(path.name + ".tmp")
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
            os.replace(temporary, path)

    def write(self, event: str, step: int, values: dict[str, Any]) -> None:
        """Append one line."""
        if self._path is None:
            return
        with self._path.open("a") as file:
            file.write(json.dumps({"event": event, "step": step, **values}) + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a metrics.jsonl; a last line cut off by a killed run is left out."""
    lines = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


class Console:
    """A progress bar on a terminal, plain lines elsewhere; messages go above the bar. `quiet` prints nothing."""

    def __init__(self, total: int, done: int, quiet: bool = False, interval: float = 10.0) -> None:
        self._total, self._interval, self._last, self._quiet = total, interval, -math.inf, quiet
        self._start, self._start_step = time.monotonic(), done
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
        """Show that `step` steps are done; on plain consoles at most one line per `interval` seconds."""
        if self._progress:
            self._progress.update(self._task, completed=step, description=text)
            return
        now = time.monotonic()
        if now - self._last >= self._interval:
            self._last = now
            rate = (step - self._start_step) / max(now - self._start, 1e-9)
            left = (self._total - step) / max(rate, 1e-9)
            self.say(f"step {step}/{self._total}  {text}  {_clock(left)} left")

    def stop(self) -> None:
        """Take the bar off the terminal."""
        if self._progress:
            self._progress.stop()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
