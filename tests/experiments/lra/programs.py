"""Running the sequence program: in this process, or as a user does."""

import subprocess
from pathlib import Path

from configs import lra
from experiments.lra.main import PROGRAM
from tests.experiments import programs
from tests.program_server import run_program


def tiny(argument: str, data_dir: Path, **changes: object) -> object:
    """Return a smoke configuration with its data in `data_dir`; changes are written section__option=value."""
    config = lra.get_config(f"{argument},smoke")
    config.data.dir = str(data_dir)
    config.figures = False
    for path, value in changes.items():
        section, _, option = path.partition("__")
        if option:
            with config.unlocked():
                config[section][option] = value
        else:
            config[section] = value
    return config


def run_here(config: object, folder: Path, given: dict | None = None, mode: str = "train", step: int | None = None):
    """Run the program in this process and return the content of the file of results that it writes.

    Such runs are short, so the machine code is not optimised: compiling takes longer than running.
    """
    return programs.run_here(PROGRAM, config, folder, given=given, mode=mode, step=step)


def lra_command(*arguments: str) -> subprocess.CompletedProcess:
    """Run `python -m experiments.lra` from the repository root."""
    return run_program("experiments.lra", arguments)
