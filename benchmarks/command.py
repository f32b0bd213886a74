"""What the command lines of the benchmarks share: checks before anything is timed, and errors of one sentence."""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from experiments.errors import UserError, of_the_machine
from kernels import platform

ROOT = Path(__file__).parent.parent
# The option with which what is meant for a GPU runs elsewhere, and its help.
ANY_DEVICE = "any_device"
ANY_DEVICE_HELP = "Run where there is no NVIDIA GPU, too: a trial, for which sizes have to be small."


def names_in(text: str) -> tuple[str, ...]:
    """Split a list with commas."""
    return tuple(name for name in text.split(",") if name)


def check_output(path: str | None) -> None:
    """Raise UserError where no file can be written at `path`, before the hours that its content takes."""
    if path is None:
        return
    folder = Path(path).parent
    try:
        if not path or Path(path).is_dir():
            raise IsADirectoryError(0, "it is a folder")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{path!r} cannot be written ({error.strerror}); name a file in another folder") from error


def check_gpu(trial: str | None = None, here: str | None = None) -> None:
    """Raise UserError where there is no NVIDIA GPU: elsewhere kernels are interpreted, for hours, or there are none.

    `trial` is the option that lets a trial run anywhere, if there is one; `here` the platform, where it is known.
    """
    here = here or platform()
    if here != "cuda":
        remedy = "run it on a GPU" + (f", or a trial of small sizes with {trial}" if trial else "")
        raise UserError(f"this times programs of an NVIDIA GPU, but the device is a {here}; {remedy}")


def platform_apart() -> str:
    """Return `platform()` of a process of its own, that ends: one that asks JAX takes the memory of its GPU.

    Raises UserError where there is none.
    """
    command = [sys.executable, "-c", "from kernels import platform; print(platform())"]
    asked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if asked.returncode:
        last = (asked.stderr.strip().splitlines() or [f"status {asked.returncode}"])[-1]
        raise UserError(f"JAX finds no device here ({last}); check its installation")
    return asked.stdout.split()[-1]


def exit_status(main: Callable[[list[str]], int]) -> int:
    """Run `main` with the arguments of the command line and return its status: 2, after one sentence, for errors."""
    try:
        return main(sys.argv[1:])
    except Exception as error:
        expected = isinstance(error, UserError | ValueError | OSError)
        words = of_the_machine(error) or (" ".join(str(error).split()) if expected else None)
        if words is None:
            raise
        print(f"error: {words}", file=sys.stderr)
        return 2
