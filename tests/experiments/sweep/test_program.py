"""The sweep as a user runs it: killed and begun again, listed, refused; nothing is run twice and nothing lost."""

import json
import signal
import sys
import time

import pytest

from experiments.training.records import read_log
from tests.experiments.programs import ROOT, environment, write_elasticity
from tests.program_server import Forked, run_program

STUDY = """
from experiments.sweep.figures import Curves
from experiments.sweep.study import Part, Study, axis
from studies.common import ELASTICITY, tiny

CONFIG = f"{ELASTICITY}:smoke"

def get_study(variant):
    options = {**tiny(CONFIG), "train.epochs": 40, "checkpoint.every": 8, "eval.every": 40}
    part = Part(config=CONFIG, options=options, axes=(axis("optimizer.learning_rate", 1e-3, 2e-3),))
    return Study(name="rates", title="Rates", columns=("learning_rate",), parts=(part,),
                 figures={"rates": Curves(x="learning_rate")})
"""

# The sweep, with runs that are programs of their own, as for a user: what ends them when it is killed is inherited.
STARTING_PROGRAMS = """
import runpy, subprocess
from experiments.sweep import jobs

jobs.subprocess = subprocess
runpy.run_module("experiments.sweep", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of two runs of some seconds, and its data."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "rates.py").write_text(STUDY)
    write_elasticity(folder / "data")
    return folder / "rates.py", folder / "data"


def _arguments(study, out, *more):
    return [f"--study={study[0]}", f"--data_dir={study[1]}", f"--out={out}", *more]


def _wait(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on_where_it_was(study, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-c", STARTING_PROGRAMS, *_arguments(study, out)]
    with (tmp_path / "output").open("wb") as output:
        process = Forked(command, cwd=ROOT, env=environment(), stdout=output, stderr=output)
        _wait(lambda: list(out.glob("runs/*/checkpoints/[1-9]*/_CHECKPOINT_METADATA")))
        process.send_signal(signal.SIGKILL)
        process.wait()
    (first,) = out.glob("runs/*")
    # The run of the sweep ends by itself, with a checkpoint.
    _wait(lambda: "run the same command again" in (first / "sweep.log").read_text())
    reached = max(line["step"] for line in read_log(first / "metrics.jsonl"))
    assert 0 < reached < 160
    result = run_program("experiments.sweep", _arguments(study, out), env=environment())
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"resuming from step {reached} of 160" in (first / "sweep.log").read_text()
    folders = sorted(out.glob("runs/*"))
    assert len(folders) == 2
    for folder in folders:
        steps = [line["step"] for line in read_log(folder / "metrics.jsonl") if line["event"] == "train"]
        assert steps == sorted(set(steps))
        assert steps[-1] == json.loads((folder / "eval.json").read_text())["step"] == 160
    assert (out / "rates" / "rates.png").exists()
    table = (out / "rates" / "results.csv").read_text()
    stamps = {folder: (folder / "eval.json").stat().st_mtime_ns for folder in folders}
    # What is done is not run again.
    again = run_program("experiments.sweep", _arguments(study, out), env=environment())
    assert again.returncode == 0, again.stderr
    assert {folder: (folder / "eval.json").stat().st_mtime_ns for folder in folders} == stamps
    assert (out / "rates" / "results.csv").read_text() == table


def test_a_study_is_listed_and_nothing_is_run(tmp_path):
    arguments = ["--study=studies/num_blocks.py", f"--out={tmp_path}", "--list", "--where=num_latents=16|64"]
    result = run_program("experiments.sweep", [*arguments, "--where=data=darcy", "--seeds=0,1"], env=environment())
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("data darcy, num_latents 64") == 7
    assert result.stdout.count(" 0 % ") == 14
    assert list(tmp_path.iterdir()) == []


def test_measurements_are_planned_without_the_flags_of_trainings(tmp_path):
    arguments = ["--study=studies/time_memory.py:smoke", f"--out={tmp_path}", "--dry_run"]
    result = run_program("experiments.sweep", arguments, env=environment())
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("python -m benchmarks.scaling ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "--study=FILE is missing"),
        ("--study=studies/none.py", "study 'studies/none.py' does not exist"),
        ("--study=", "study '' does not exist; those that come with the project are in studies/"),
        ("--study=studies/num_blocks.py:tiny", "study variant 'tiny' is not known"),
        ("--study=studies/num_blocks.py --jobs=0", "--jobs=0 must be a number of processes per GPU"),
        ("--study=studies/num_blocks.py --seeds=a", "--seeds=a must be integers"),
        ("--study=studies/num_blocks.py --set=train.epochs", "--set=train.epochs is not understood"),
        ("--study=studies/num_blocks.py --set=train.epoch=3", "has no option train.epoch"),
        (
            "--study=studies/num_blocks.py --set=train.epochs=many",
            "train.epochs=many is not understood; it takes an integer",
        ),
        ("--study=studies/num_blocks.py --set=optimizer.name=1", "optimizer.name is '1' but must be one of"),
        (
            "--study=studies/num_blocks.py --set=train.seeds=1",
            "would replace what the study has of seeds; write --seeds=1",
        ),
        ("--study=studies/num_blocks.py --jobs=x", "--jobs=x is not understood; it takes an integer"),
        ("--study=studies/num_blocks.py --list --retry_failed", "--retry_failed has no effect with --list"),
        ("--study=studies/num_blocks.py --set=train.epochs=-1", "train.epochs is -1"),
        ("--study=studies/num_blocks.py --where=num_latents=17", "--where=num_latents=17 chooses no run"),
        ("--study=studies/num_blocks.py --where=color=red", "choose from the columns data, num_latents, num_blocks"),
        (
            "--study=studies/comparison.py:smoke --where=model=FLARE --where=model=flare_ablations",
            "--where=model is given twice, as FLARE and as flare_ablations; "
            'write --where="model=FLARE|flare_ablations"',
        ),
        (
            "--study=studies/mixers.py:smoke --set=train.epochs=2 --set=train.epochs=3",
            "--set=train.epochs is given twice, as 2 and as 3; leave one of them out",
        ),
        (
            "--study=studies/routing.py --set=optimizer.name=muon",
            "--set=optimizer.name=muon would make the label optimizer=adamw false, for study routing varies "
            'optimizer.name; leave it out and choose runs with --where="optimizer=muon"',
        ),
        ("--study=studies/time_memory.py --set=model.nope=1", "--set=model.nope=1 has no effect on measurements"),
        ("--study=studies/time_memory.py --seeds=0,1", "--seeds=0,1 has no effect on measurements"),
        ("--study=studies/time_memory.py --data_dir=data", "--data_dir=data has no effect on measurements"),
        ("--study=studies/time_memory.py --parallel_seeds=1", "--parallel_seeds=1 has no effect on measurements"),
        ("--study=studies/mixers.py:smoke --parallel_seeds=2", "--parallel_seeds=2 has no effect, for the runs have"),
        ("--study=studies/mixers.py:smoke --parallel_seeds=-1", "--parallel_seeds=-1"),
    ],
)
def test_command_lines_that_cannot_be_followed(tmp_path, arguments, words):
    result = run_program("experiments.sweep", [*arguments.split(), f"--out={tmp_path / 'out'}"], env=environment())
    assert result.returncode == 2, result.stdout
    assert "Traceback" not in result.stderr
    assert words in result.stderr
    assert not (tmp_path / "out").exists()
