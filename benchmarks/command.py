"""What the command lines of the benchmarks share: checks before anything is timed, and errors of one sentence."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from experiments.errors import UserError, of_the_machine
from kernels import platform


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


def check_gpu() -> None:
    """Raise UserError where there is no NVIDIA GPU: elsewhere kernels are interpreted, for hours, or there are none."""
    if platform() != "cuda":
        raise UserError(f"this times kernels of an NVIDIA GPU, but the device is a {platform()}; run it on a GPU")


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
