"""The smoke run of every model type, as a user starts it: it trains, evaluates, and its report can be made again."""

import json

import pytest

from experiments.pdebench.models import takes_edges
from flare_jax.models.registry import MODELS
from tests.experiments.programs import pdebench, write_darcy_small, write_elasticity

# Compiling takes longer than a few steps of these networks, so they are made of one block.
FEW_STEPS = (
    "--config.train.epochs=0",
    "--config.train.steps=3",
    "--config.eval.every=3",
    "--config.checkpoint.every=3",
    "--config.figures=False",
)
ONE_BLOCK = {"num_blocks": 1, "num_approximator_blocks": 1}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_elasticity(folder)
    write_darcy_small(folder)
    return folder


def _smoke(argument, data_dir, run, *more):
    model_type = argument.partition(",")[0].removeprefix("model=")
    sizes = [f"--config.model.{n}={v}" for n, v in ONE_BLOCK.items() if n in MODELS[model_type].options()]
    return pdebench(
        f"--config=configs/pde.py:{argument},smoke", *FEW_STEPS, *sizes, *more,
        f"--data_dir={data_dir}", f"--workdir={run}",
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("model_type", [name for name in MODELS if not takes_edges(name)])
def test_smoke_on_elasticity(model_type, data_dir, tmp_path):
    sizes = ("--config.data.source=files", "--config.data.n_train=16", "--config.data.n_test=6")
    result = _smoke(f"model={model_type},data=elasticity", data_dir, tmp_path, *sizes)
    assert result.returncode == 0, result.stderr
    summary = json.loads((tmp_path / "eval.json").read_text())
    assert summary["step"] == 3
    assert 0 < summary["test/rel_l2"] < 10
    assert "predicting the training mean" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("argument", ["model=transolver,data=darcy_small,conv2d", "model=gnot,data=darcy_small"])
def test_structured_models_take_their_grid_from_the_data(argument, data_dir, tmp_path):
    sizes = ("--config.data.n_train=12", "--config.data.n_test=5")
    result = _smoke(argument, data_dir, tmp_path, *sizes)
    assert result.returncode == 0, result.stderr
    assert "test_32 left out: this model is bound to the grid (16, 16)" in result.stdout
    assert json.loads((tmp_path / "config.json").read_text())["model_options"]["grid_shape"] == [16, 16]
    before = json.loads((tmp_path / "eval.json").read_text())
    again = pdebench("--mode=eval", f"--workdir={tmp_path}")
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "eval.json").read_text()) == before


def test_structured_models_need_a_grid(data_dir, tmp_path):
    sizes = ("--config.data.source=files", "--config.data.n_train=16", "--config.data.n_test=6")
    result = _smoke(
        "model=transolver,data=elasticity", data_dir, tmp_path, *sizes, "--config.model.grid_shape=data"
    )  # fmt: skip
    assert result.returncode == 2
    assert "the samples of data set elasticity are no grid" in result.stderr
    assert "Traceback" not in result.stderr
