"""Jobs of a sweep: processes on the devices of the host, started, followed and ended in order."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Protocol

from experiments.cli import ROOT
from experiments.errors import UserError
from experiments.sweep.runs import Command, Run

LOG = "sweep.log"
# Where JAX keeps compiled programs. Not on CPUs, where XLA may overflow the stack of the thread that reads them back.
_CACHE = "JAX_COMPILATION_CACHE_DIR"
# Of the memory of a GPU that jobs share; the rest is for what is not XLA's.
_MEMORY_SHARE = 0.9


class Process(Protocol):
    """A process that was started: as `subprocess.Popen`."""

    def poll(self) -> int | None:
        """Return the exit status, negative after a signal, None while it runs."""

    def terminate(self) -> None:
        """Send it SIGTERM."""


Launch = Callable[[Command, Path, Mapping[str, str]], Process]


@dataclass(frozen=True)
class Slot:
    """A place for one job: the number of a GPU, None where there is none, and the variables that a job gets there."""

    gpu: int | None
    environment: Mapping[str, str]

    def describe(self) -> str:
        """Return the device as a word."""
        return "CPU" if self.gpu is None else f"GPU {self.gpu}"


@dataclass
class Job:
    """A process at work on a run; its part of the log begins at byte `begin`."""

    run: Run
    command: Command
    slot: Slot
    process: Process
    begin: int


@dataclass
class Outcome:
    """How the runs of a sweep ended: those that failed, with a sentence, and those that something outside
    ended.

    `postponed` are those that the time did not suffice for.
    """

    failed: dict[Path, str] = field(default_factory=dict)
    ended: dict[Path, str] = field(default_factory=dict)
    postponed: list[Path] = field(default_factory=list)


def make_slots(
    jobs: int,
    environment: Mapping[str, str] = os.environ,
    devices: Path = Path("/dev"),
    *,
    cache: Path | None = None,
) -> list[Slot]:
    """Return `jobs` places on every GPU that this process may use, on the CPU where there is none.

    Jobs that share a GPU get equal parts of its memory, unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise. On GPUs
    they share compiled programs in the folder `cache`, if one is given.
    """
    gpus = visible_gpus(environment, devices)
    if not gpus:
        return [Slot(None, {})] * jobs
    share = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{_MEMORY_SHARE / jobs:.3f}"} if jobs > 1 else {}
    share = {name: value for name, value in share.items() if name not in environment}
    if cache is not None:
        share[_CACHE] = str(cache.absolute())
    # The first jobs go to different GPUs.
    return [Slot(gpu, {"CUDA_VISIBLE_DEVICES": name, **share}) for _ in range(jobs) for gpu, name in enumerate(gpus)]


def visible_gpus(environment: Mapping[str, str], devices: Path) -> list[str]:
    """Return the names, for CUDA_VISIBLE_DEVICES, of the GPUs that a process with this environment may use.

    They are counted without CUDA, which would take memory on each.
    """
    if environment.get("JAX_PLATFORMS", "").startswith("cpu"):
        return []
    if "CUDA_VISIBLE_DEVICES" in environment:
        return [name for name in environment["CUDA_VISIBLE_DEVICES"].split(",") if name not in ("", "-1")]
    return [str(number) for number, _ in enumerate(devices.glob("nvidia[0-9]*"))]


def launch(command: Command, log: Path, environment: Mapping[str, str]) -> subprocess.Popen:
    """Start a job with its output in `log`, in a session of its own: Ctrl-C is for the sweep, which passes it on."""
    module, arguments = command
    descriptor, _ = _lifeline()
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "experiments.sweep.worker", str(descriptor), module, *arguments],
            pass_fds=[descriptor],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            # The project's packages come first, not what the current folder has.
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *others]), **environment},
            start_new_session=True,
        )


@cache
def _lifeline() -> tuple[int, int]:
    """Return a pipe whose writing end no job has: it is closed when this process ends."""
    return os.pipe()


def cache_folder(
    given: str | None, out: Path, environment: Mapping[str, str] = os.environ, devices: Path = Path("/dev")
) -> Path | None:
    """Return the folder of compiled programs that --compilation_cache names, None for "" and where there is no GPU.

    By default it lies below `out`, unless JAX_COMPILATION_CACHE_DIR names another, which jobs find by themselves.
    Raises UserError for a folder without a GPU.
    """
    if not visible_gpus(environment, devices):
        if given:
            raise UserError(f"--compilation_cache={given} is for GPUs, and there is none here; leave it out")
        return None
    if given is None:
        return None if _CACHE in environment else out / "cache"
    return Path(given) if given else None


def check_jobs(jobs: int) -> None:
    """Raise UserError for a number of jobs that makes no sense."""
    if not 1 <= jobs <= 1024:
        raise UserError(f"--jobs={jobs} must be a number of processes per GPU, from 1 to 1024")
