import json

import pytest

from tests.program_server import run_program


def test_steps_of_a_study_are_timed_alone(tmp_path):
    arguments = ["--study=studies/mixers.py:smoke", "--set=train.epochs=3", "--steps=2", "--repeats=1", "--any_device"]
    result = run_program("benchmarks.study_steps", [*arguments, f"--output={tmp_path / 'a.json'}"])
    assert result.returncode == 0, result.stderr
    (run,) = json.loads((tmp_path / "a.json").read_text())["runs"]
    assert run["model"] == "flare"
    assert run["steps"] == 3 * 16 // 4  # epochs, samples and batch of the tiny runs of studies
    assert run["parameters"] == 761
    assert run["train_s"] == pytest.approx(run["steps"] * run["step_ms"] / 1e3)
    assert "GPU-seconds" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--any_device"], "--study=FILE is missing"),
        (["--study=studies/listops.py", "--any_device"], "model transformer trains no fields"),
        (["--study=studies/time_memory.py", "--any_device"], "program benchmarks.scaling trains no fields"),
        (["--study=studies/mixers.py", "--where=model=none"], "--where=model=none chooses no run"),
    ],
)
def test_what_cannot_be_timed(arguments, sentence):
    result = run_program("benchmarks.study_steps", arguments)
    assert result.returncode != 0
    assert sentence in result.stderr
