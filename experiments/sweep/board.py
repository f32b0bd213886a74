"""How far a sweep is: a table that stays in place on a terminal, lines elsewhere; with the time that is left."""

import math
import sys
import time
from collections.abc import Callable, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from experiments.sweep.jobs import Job, Outcome
from experiments.sweep.runs import Run
from experiments.training.records import clock

_LINE_SECONDS, _TABLE_SECONDS = 60.0, 1.0


def name_of(run: Run) -> str:
    """Return the labels of a run as text."""
    return ", ".join(f"{column} {value}" for column, value in run.labels.items())


class Board:
    """Shows the state of `runs`; says single events as lines."""

    def __init__(self, runs: Sequence[Run], say: Callable[[str], None] | None = None) -> None:
        self._runs = list({run.folder: run for run in runs}.values())
        self._begin, self._before = time.monotonic(), sum(self._shares().values())
        self._last = self._begin
        self._live: Live | None = None
        self._console = Console()
        self._print = say
        if say is None and sys.stdout.isatty():
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()

    def say(self, run: Run, text: str) -> None:
        """Print a line about a run."""
        line = f"{name_of(run)}: {text}"
        if self._print is not None:
            self._print(line)
        elif self._live:
            self._console.print(line, markup=False, highlight=False)
        else:
            print(line, flush=True)

    def show(self, running: Sequence[Job], outcome: Outcome) -> None:
        """Show what runs, what is done and how long the rest takes, if the last time was long enough ago."""
        now = time.monotonic()
        if now - self._last < (_TABLE_SECONDS if self._live else _LINE_SECONDS):
            return
        self._last = now
        shares = self._shares()
        text = self._summary(shares, len(running), outcome)
        if not self._live:
            (self._print or (lambda line: print(line, flush=True)))(text)
            return
        table = Table()
        for column in ("run", "device", "done"):
            table.add_column(column)
        for job in running:
            table.add_row(name_of(job.run), job.slot.describe(), f"{100 * shares[str(job.run.folder)]:.0f} %")
        self._live.update(Group(Text(text), table), refresh=True)

    def stop(self) -> None:
        """Take the table off the terminal."""
        if self._live:
            self._live.stop()

    def _shares(self) -> dict[str, float]:
        return {str(run.folder): run.progress() for run in self._runs}

    def _summary(self, shares: dict[str, float], running: int, outcome: Outcome) -> str:
        done = sum(share >= 1 for share in shares.values())
        lost = {str(folder) for folder in (*outcome.failed, *outcome.ended)}
        left = sum(1 - share for folder, share in shares.items() if folder not in lost)
        rate = (sum(shares.values()) - self._before) / max(time.monotonic() - self._begin, 1e-9)
        rest = f"{clock(left / rate)} left" if rate > 0 and math.isfinite(left / rate) else "time left unknown yet"
        return f"{done} of {len(shares)} runs done, {running} at work, {len(lost)} failed, {rest}"
