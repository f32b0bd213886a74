"""`--help` names every option of a config, with its type, its value and one line."""

import re

import pytest

from configs import custom, lm, lra, pde
from data_pipeline.registry import DATASETS
from data_pipeline.sequence.registry import TASKS
from experiments import help, sections
from experiments.cli import flatten
from experiments.schema import options_of_config
from flare_jax.models import MODELS
from flare_jax.models.sequence import BACKENDS
from runtime.options import options_of
from tests.experiments.programs import ROOT, environment
from tests.program_server import run_program

SECTIONS = {
    "train": sections.RecursiveTrainOptions,
    "optimizer": sections.OptimizerOptions,
    "schedule": sections.ScheduleOptions,
    "checkpoint": sections.CheckpointOptions,
    "mesh": sections.MeshOptions,
}


def configs():
    for dataset in DATASETS:
        if dataset != "custom":
            yield pde.get_config(f"model=flare,data={dataset}")
    for model_type in MODELS:
        yield pde.get_config(f"model={model_type},data=darcy")
    yield custom.get_config()
    for model in lm.MODELS:
        yield lm.get_config(f"model={model},size=tiny")
    yield lm.get_config("model=gla,size=recall64,recall")
    for task in TASKS:
        yield lra.get_config(f"task={task},model=flare")
    for backend in BACKENDS:
        yield lra.get_config(f"task=sudoku,model={backend},trm")


def test_every_option_of_every_config_has_its_line():
    seen = set()
    for config in configs():
        names = flatten(config)
        lines = dict(line.strip().removeprefix("--config.").split("=", 1) for line in help.option_lines(config))
        assert set(lines) == set(names)
        assert all(line.partition("(")[2].partition(") ")[2] for line in lines.values())
        assert names.keys() - options_of_config(config) <= {"model.type", "model.backend"}
        seen |= {name for name in names if not name.startswith("model.")}
    declared = {f"{section}.{name}" for section, known in SECTIONS.items() for name in options_of(known)}
    assert declared <= seen, "options that no configuration has"


def test_options_of_the_model_say_their_types_and_defaults():
    text = "\n".join(help.option_lines(pde.get_config("model=flare,data=darcy")))
    assert "--config.model.num_latents=256  (an integer of at least 1 and at most 131072) latents of each head" in text
    assert "--config.model.gating=False  (True or False) multiply the merged heads" in text
    assert "--config.train.epochs=500  (an integer of at least 0 and at most 2147483647) epochs to train" in text


@pytest.mark.parametrize("wanted", ["--help", "-h", "--helpfull"])
def test_words_for_help(wanted):
    assert help.wanted(["--config=a.py", wanted])
    assert not help.wanted(["--config=a.py", "--workdir=--help"])


def test_a_program_prints_help_and_runs_nothing(tmp_path):
    arguments = ["--config=configs/flare_elas.py", "--help", f"--workdir={tmp_path}/run"]
    result = run_program("experiments.pdebench", arguments, env=environment())
    assert result.returncode == 0
    assert result.stdout.startswith("python -m experiments.pdebench --FLAG=VALUE ...")
    assert "--workdir  Folder of the run" in result.stdout
    assert "python -m experiments.pdebench --mode=eval --workdir=out/flare_elas " in result.stdout
    assert re.search(r"--mode  <train.*>: train: .* \(default: train\)", result.stdout)
    assert "--config.model.num_blocks=8" in result.stdout
    assert not (tmp_path / "run").exists()


def programs():
    """Yield all modules with flags that run by `python -m`; the others are started by them, or take none."""
    for package in ("benchmarks", "data_pipeline", "experiments", "flare_jax"):
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text()
            if (
                '__name__ == "__main__"' in text
                and path.name != "worker.py"
                and ("cli.run" in text or "Parser(" in text)
            ):
                yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")


@pytest.mark.parametrize("program", list(programs()))
def test_every_program_calls_itself_by_its_own_name(program):
    result = run_program(program, ["--help"], env=environment())
    assert result.returncode == 0, result.stderr
    named = re.search(r"python -m ([\w.]+)", result.stdout)
    assert named is not None, result.stdout
    assert named[1] == program


@pytest.mark.parametrize("program", ["experiments.predict", "experiments.export", "data_pipeline.download"])
def test_every_program_says_what_it_does_in_a_screen(program):
    result = run_program(program, ["--help"], env=environment())
    assert result.returncode == 0
    assert f"python -m {program} " in result.stdout
    assert 8 <= len(result.stdout.splitlines()) <= 40


def test_runs_of_full_size_never_generate_by_themselves():
    # Associative recall has no files that could be missing.
    assert {config.data.source for config in configs() if config.data.name != "recall"} == {"files"}
