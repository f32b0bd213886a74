import json

import pytest

from tests.program_server import run_program

SMOKE = "--study=studies/mixers.py:smoke"


def test_steps_of_a_study_are_timed_alone(tmp_path):
    arguments = [
        SMOKE,
        "--set=train.epochs=3",
        "--set=train.accumulation=2",
        "--steps=3",
        "--repeats=1",
        "--any_device",
    ]
    result = run_program("benchmarks.study_steps", [*arguments, f"--output={tmp_path / 'a.json'}"])
    assert result.returncode == 0, result.stderr
    (run,) = json.loads((tmp_path / "a.json").read_text())["runs"]
    assert run["model"] == "flare"
    assert run["steps"] == 3 * 16 // 8  # epochs, samples, and two batches of the tiny runs of studies
    assert run["parameters"] == 761
    assert run["train_s"] == pytest.approx(run["steps"] * run["step_ms"] / 1e3)
    assert "seconds of all steps" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--any_device"], "--study=FILE is missing"),
        (["--study=studies/listops.py", "--any_device"], "model transformer trains no fields"),
        (["--study=studies/time_memory.py", "--any_device"], "program benchmarks.scaling trains no fields"),
        (["--study=studies/mixers.py", "--where=model=none"], "--where=model=none chooses no run"),
        ([SMOKE, "--set=train.seeds=5"], "--set=train.seeds would replace what the study has of seeds; leave it out"),
        ([SMOKE, "--set=data.n_train=3"], "one optimizer step needs train.batch_size=4"),
        (["--study=studies/mixers.py:darcy", "--set=data.side=43"], "data.side=43, but random data are those of 85"),
    ],
)
def test_what_cannot_be_timed(arguments, sentence):
    result = run_program("benchmarks.study_steps", arguments)
    assert result.returncode != 0
    assert sentence in result.stderr
