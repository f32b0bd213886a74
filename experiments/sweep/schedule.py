"""The order of a sweep: runs that are not done go to free places; what fails is noted and stops nothing else."""

import math
import time
from collections.abc import Sequence
from pathlib import Path

from experiments.sweep import jobs
from experiments.sweep.board import Board
from experiments.sweep.endings import Cause, Ending, read_ending
from experiments.sweep.jobs import Job, Outcome
from experiments.sweep.runs import DEVICE_ERRORS, FAILURE, Run
from runtime import signals
from runtime.files import remove
from runtime.json_files import read_object, write_json

# What a job says where another process, perhaps one of another sweep, is at work in its folder or on its data.
_BUSY = ("another process is training in", "another process is generating into")
_BUSY_SECONDS, _POLL_SECONDS = 5.0, 0.1
# How often a run is begun again in one sweep after a signal from outside, and in all sweeps after errors of a device
# between which it got no further: a fault of the run itself looks the same.
_AGAIN, _AGAIN_ON_DEVICES = 1, 2
# Other processes on a device in error must end before it works again.
_RECOVERY_SECONDS = 10.0
_PATIENCE_SECONDS = 120.0


class Schedule:
    """Executes runs, each folder once; `board` shows how far they are.

    After `seconds`, where they are given, nothing begins any more and what runs is ended in order.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        slots: Sequence[jobs.Slot],
        launch: jobs.Launch,
        board: Board,
        seconds: float = math.inf,
    ) -> None:
        self._until = time.monotonic() + seconds
        self._free, self._launch, self._board = list(slots), launch, board
        self._running: list[Job] = []
        self._later: list[tuple[float, Run]] = []
        self._begun: dict[Path, int] = {}
        self.outcome = Outcome()
        unique = {run.folder: run for run in runs}
        self._waiting = []
        for folder, run in unique.items():
            if sentence := failure_of(run):
                self.outcome.failed[folder] = sentence
            elif run.command() is not None:
                self._waiting.append(run)

    def execute(self) -> Outcome:
        """Run everything; after a signal the jobs are ended in order and Interrupted is raised."""
        try:
            with signals.protected():
                while self._is_open() and not signals.requested():
                    self._start()
                    time.sleep(_POLL_SECONDS)
                    self._look()
                    self._board.show(self._running, self.outcome)
        finally:
            self._end()
        return self.outcome

    def _is_open(self) -> bool:
        """Tell whether there is something to do, and time for it."""
        return bool(self._waiting or self._running or self._later) and time.monotonic() < self._until

    def _start(self) -> None:
        now = time.monotonic()
        self._waiting += [run for when, run in self._later if when <= now]
        self._later = [(when, run) for when, run in self._later if when > now]
        while self._waiting and self._free:
            run = self._waiting.pop(0)
            command = run.command()
            if command is None:  # another sweep has done it
                self._board.say(run, "done elsewhere")
                continue
            run.folder.mkdir(parents=True, exist_ok=True)
            slot, log = self._free.pop(0), run.folder / jobs.LOG
            begin = log.stat().st_size if log.exists() else 0
            self._board.say(run, f"{command[0]} on {slot.describe()}")
            self._running.append(Job(run, command, slot, self._launch(command, log, slot.environment), begin))

    def _look(self) -> None:
        for job in list(self._running):
            status = job.process.poll()
            if status is not None:
                self._running.remove(job)
                self._free.append(job.slot)
                self._note(job, status)

    def _note(self, job: Job, status: int) -> None:
        """Note how a job has ended, and what is next for its run."""
        run, log = job.run, job.run.folder / jobs.LOG
        if status:
            ending = read_ending(status, log, job.begin)
        else:
            run.ended(job.command[0])
            following = run.command()
            if following == job.command:
                ending = Ending(Cause.RUN, f"it ended well but left no results; see {log}")
            elif following is not None:
                self._waiting.insert(0, run)
                return
            else:
                self._board.say(run, "done")
                return
        if ending.sentence.startswith(_BUSY):
            self._again_in(_BUSY_SECONDS, run)
        elif ending.cause == Cause.SIGNAL:
            self._begun[run.folder] = self._begun.get(run.folder, 0) + 1
            if self._begun[run.folder] <= _AGAIN:
                self._waiting.append(run)
            else:
                self.outcome.ended[run.folder] = ending.sentence
                self._board.say(run, f"ended: {ending.sentence}")
        elif ending.cause == Cause.DEVICE and _count_device_error(run) <= _AGAIN_ON_DEVICES:
            self._board.say(run, f"begun again after an error of the device: {ending.sentence}")
            self._again_in(_RECOVERY_SECONDS, run)
        else:
            write_json(run.folder / FAILURE, {"sentence": ending.sentence, "status": status})
            self.outcome.failed[run.folder] = ending.sentence
            self._board.say(run, f"FAILED: {ending.sentence}")

    def _again_in(self, seconds: float, run: Run) -> None:
        self._later.append((time.monotonic() + seconds, run))

    def _end(self) -> None:
        """End the jobs that run, which keep what they have, and wait for them."""
        self.outcome.postponed = [run.folder for run in (*self._waiting, *(run for _, run in self._later))]
        for job in self._running:
            self.outcome.postponed.append(job.run.folder)
            job.process.terminate()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self._running and time.monotonic() < deadline:
            self._running = [job for job in self._running if job.process.poll() is None]
            time.sleep(_POLL_SECONDS)
        self._board.stop()


def failure_of(run: Run) -> str:
    """Return the sentence with which the run failed before, "" where it did not."""
    try:
        return str(read_object(run.folder / FAILURE)["sentence"])
    except (OSError, ValueError, KeyError):
        return ""


def forget_failures(runs: Sequence[Run]) -> None:
    """Let runs that failed begin again."""
    for run in runs:
        remove(run.folder / FAILURE)
        remove(run.folder / DEVICE_ERRORS)


def _count_device_error(run: Run) -> int:
    """Note one more error of a device, and return how many there were since the run last got further."""
    path, progress = run.folder / DEVICE_ERRORS, run.progress()
    try:
        noted = read_object(path)
        count = int(noted["count"]) + 1 if float(noted["progress"]) >= progress else 1
    except (OSError, ValueError, KeyError, TypeError):
        count = 1
    write_json(path, {"count": count, "progress": progress})
    return count
