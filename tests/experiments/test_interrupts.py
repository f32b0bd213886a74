"""A run ended at several moments, as a user, a scheduler or a crash ends it, gives what one gives that nobody ended."""

import signal
import subprocess
import sys

import pytest

from tests.experiments.interrupts import end_at, results
from tests.experiments.programs import TINY, pdebench, write_elasticity
from tests.program_server import Forked

# While importing, compiling, saving and training; the steps are those of checkpoints. The last one leaves nine tenths
# of the run: on a machine with other work some seconds pass until a process is told of it.
ENDS = (
    (signal.SIGINT, "", 0.3),
    (signal.SIGTERM, "checkpoints/0", 0.3),
    (signal.SIGKILL, "checkpoints/24", 0.01),
    (signal.SIGINT, "checkpoints/48", 0.02),
)


@pytest.mark.slow
def test_a_run_that_is_ended_at_any_moment_ends_in_order_and_loses_nothing(tmp_path):
    data = tmp_path / "data"
    write_elasticity(data)

    def arguments(run):
        changes = ("--config.train.epochs=120", "--config.checkpoint.every=6")
        return [*TINY, *changes, f"--data_dir={data}", f"--workdir={run}"]

    straight, ended = tmp_path / "straight", tmp_path / "ended"
    assert pdebench(*arguments(straight)).returncode == 0
    command = [sys.executable, "-m", "experiments.pdebench", *arguments(ended)]
    for number, sign, moment in ENDS:
        start = Forked if sign else subprocess.Popen  # the one that is ended while it imports does import
        end = end_at(command, ended / sign, ended, number, moment, start)
        assert end is not None, "the run ended by itself"
        assert (end.unclean, end.lost) == ("", "")
    result = pdebench(*arguments(ended))
    assert result.returncode == 0, result.stderr
    assert "resuming from step" in result.stdout
    assert results(ended) == results(straight)
