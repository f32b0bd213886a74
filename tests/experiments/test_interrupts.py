"""A run ended at several moments, as a user, a scheduler or a crash ends it, gives what one gives that nobody ended."""

import signal
import sys

import pytest

from tests.experiments.interrupts import end_at, results
from tests.experiments.programs import TINY, pdebench, write_elasticity

ENDS = (
    (signal.SIGINT, "start, imports, data", 0.3),
    (signal.SIGKILL, "first save", 0.02),
    (signal.SIGTERM, "compilation", 0.3),
    (signal.SIGKILL, "training", 1.0),
    (signal.SIGINT, "training", 0.5),
)


@pytest.mark.slow
def test_a_run_that_is_ended_at_any_moment_ends_in_order_and_loses_nothing(tmp_path):
    data = tmp_path / "data"
    write_elasticity(data)

    def arguments(run):
        changes = ("--config.train.epochs=80", "--config.checkpoint.every=3", "--config.figures=False")
        return [*TINY, *changes, f"--data_dir={data}", f"--workdir={run}"]

    straight, ended = tmp_path / "straight", tmp_path / "ended"
    assert pdebench(*arguments(straight)).returncode == 0
    for number, phase, moment in ENDS:
        end = end_at([sys.executable, "-m", "experiments.pdebench", *arguments(ended)], ended, number, phase, moment)
        assert end is not None, "the run ended by itself"
        assert (end.unclean, end.lost) == ("", "")
    result = pdebench(*arguments(ended))
    assert result.returncode == 0, result.stderr
    assert "resuming from step" in result.stdout
    assert results(ended) == results(straight)
