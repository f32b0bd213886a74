"""The smoke run of every model type that takes any points: it trains, evaluates, and its report can be made again."""

import json

import pytest

from configs.pde import get_config
from data_pipeline.pde import elasticity
from experiments.pdebench.main import PROGRAM
from experiments.pdebench.models import takes_edges
from experiments.workdir import load_run_config
from flare_jax.models.registry import MODELS
from tests.experiments.programs import pdebench, run_here, write_darcy_small, write_elasticity

# Compiling takes longer than a few steps of these networks, so they are made of one block, with at most one inner layer
# of a residual MLP. The steps are those of an epoch, in one program; and as long as both splits are of one size, they
# are evaluated by one program. The simple predictors know nothing of models.
FEW_STEPS = {
    "train": {"epochs": 0, "steps": 2, "batch_size": 2},
    "eval": {"every": 2, "simple_predictors": False},
    "checkpoint": {"every": 2},
    "data": {"source": "files", "n_train": 4, "n_test": 4},
}
ONE_BLOCK = {"num_blocks": 1, "num_approximator_blocks": 1}
POINTS = 72


@pytest.fixture(scope="module")
def small_data(tmp_path_factory):
    """Elasticity samples of the public layout, but of few points."""
    folder = tmp_path_factory.mktemp("small")
    write_elasticity(folder, samples=8, num_points=POINTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elasticity, "POINTS", POINTS)
        yield folder


def smoke_config(argument, data_dir):
    """Return a smoke configuration of a few steps of one block."""
    config = get_config(f"{argument},smoke")
    few = {name: size for name, size in ONE_BLOCK.items() if name in config.model}
    # Without a gating the layers of its projection have no effect, and may not be set.
    layers = {
        name: size for name, size in config.model.items() if name.startswith("num_layers_") and "gating" not in name
    }
    few |= {name: min(size, 1) for name, size in layers.items()}
    config.update(FEW_STEPS | {"model": few})
    config.data.dir = str(data_dir)
    config.figures = False
    return config


@pytest.mark.slow
@pytest.mark.parametrize("model_type", [name for name in MODELS if not takes_edges(name)])
def test_smoke_on_elasticity(model_type, small_data, tmp_path, capsys):
    summary = run_here(PROGRAM, smoke_config(f"model={model_type},data=elasticity", small_data), tmp_path)
    assert summary["step"] == 2
    assert 0 < summary["test/rel_l2"] < 10
    assert "predicting the training mean" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("argument", ["model=transolver,data=darcy_small,conv2d", "model=gnot,data=darcy_small"])
def test_structured_models_take_their_grid_from_the_data(argument, tmp_path, capsys):
    write_darcy_small(tmp_path / "data")
    config = smoke_config(argument, tmp_path / "data")
    before = run_here(PROGRAM, config, tmp_path / "run")
    assert "test_32 left out: this model is bound to the grid (16, 16)" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "config.json").read_text())["model_options"]["grid_shape"] == [16, 16]
    assert run_here(PROGRAM, load_run_config(tmp_path / "run"), tmp_path / "run", mode="eval") == before


def test_structured_models_need_a_grid(tmp_path):
    write_elasticity(tmp_path)
    result = pdebench(
        "--config=configs/pde.py:model=transolver,data=elasticity,smoke", "--config.data.n_train=4",
        "--config.data.n_test=4", "--config.data.source=files", "--config.model.grid_shape=data",
        f"--data_dir={tmp_path}", f"--workdir={tmp_path / 'run'}",
    )  # fmt: skip
    assert result.returncode == 2
    assert "the samples of data set elasticity are no grid" in result.stderr
    assert "Traceback" not in result.stderr
