"""The program on every kind of data set: outputs, evaluation from the workdir, figures, named options."""

import csv
import json

import numpy as np
import pytest

from tests.data_pipeline import fake_files
from tests.experiments.programs import draw_no_more, pdebench

pytestmark = pytest.mark.slow

# A network and a run so small that compiling takes longer than training.
MODEL = (
    "channel_dim=8",
    "num_blocks=1",
    "num_heads=2",
    "num_latents=4",
    "num_layers_ffn=0",
    "num_layers_in_out_proj=0",
)
TINY = (
    *(f"--config.model.{option}" for option in MODEL),
    "--config.model.num_layers_k_proj=0",
    "--config.model.num_layers_v_proj=0",
    "--config.train.epochs=2",
    "--config.data.source=files",
    "--config.eval.simple_predictors=False",
)


def _run(config, folder, *more):
    result = pdebench(
        f"--config=configs/{config}.py:smoke", *TINY, *more, f"--data_dir={folder / 'data'}",
        f"--workdir={folder / 'run'}",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return folder / "run", result.stdout


def _frames(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_navier_stokes_rollout(tmp_path):
    fake_files.write_navier_stokes(tmp_path / "data", side=4, frames=8)
    run, said = _run(
        "flare_ns", tmp_path, "--config.data.n_train=4", "--config.data.n_test=2", "--config.data.history=5",
        "--config.data.steps=3", "--config.task.feed=pushforward",
    )  # fmt: skip
    summary = json.loads((run / "eval.json").read_text())
    assert "repeating the last known frame" in said
    assert {"test/rel_l2", "test/rel_l2_persistence", "test/r2", "test/rel_l2_by_frame"} <= set(summary)
    rows = _frames(run / "frames_test.csv")
    assert [(row["case"], row["frame"], row["time"]) for row in rows[:4]] == [
        ("0", "0", "6"), ("0", "1", "7"), ("0", "2", "8"), ("1", "0", "6"),
    ]  # fmt: skip
    means = [np.mean([float(row["rel_l2"]) for row in rows if row["frame"] == str(frame)]) for frame in range(3)]
    np.testing.assert_allclose(means, summary["test/rel_l2_by_frame"], rtol=1e-6)
    assert (run / "figures" / "test_median.gif").read_bytes().startswith(b"GIF89a")
    assert {"learning_curve.png", "test_by_frame.png", "test_best.png", "test_worst.png"} <= {
        path.name for path in (run / "figures").iterdir()
    }
    before = (run / "eval.json").read_text()
    draw_no_more(run)
    result = pdebench("--mode=eval", f"--workdir={run}")
    assert result.returncode == 0, result.stderr
    assert (run / "eval.json").read_text() == before
    analysed = pdebench("--mode=analyze", f"--workdir={run}")
    assert analysed.returncode == 0, analysed.stderr
    assert "navier_stokes has frames, and scores are analysed of steady fields" in analysed.stdout
    assert (run / "analysis" / "test_energy.json").is_file()


def test_meshes_of_several_sizes_over_time(tmp_path):
    sizes = {"train": (9, 140, 12, 130), "test": (6,), "valid": (7,)}
    fake_files.write_mesh_series(tmp_path / "data", "cylinder_flow", sizes, frames=4)
    run, said = _run(
        "flare_cylinder_flow", tmp_path, "--config.data.n_train=4", "--config.data.n_test=1",
        "--config.train.batch_size=2", "--config.task.noise=0.1", "--config.data.buckets=2",
    )  # fmt: skip
    summary = json.loads((run / "eval.json").read_text())
    # Two meshes in either bucket, 3 pairs of frames each: 3 batches of 2 in each of the buckets.
    assert summary["step"] == 2 * (3 + 3)
    assert {"test/rel_l2", "valid/rel_l2", "valid/r2_by_frame"} <= set(summary)
    assert len(summary["valid/r2_by_frame"]) == 3
    assert (run / "frames_valid.csv").exists()
    assert "valid rel_l2" in said


def test_plasticity_takes_one_step_per_time(tmp_path):
    fake_files.write_plasticity(tmp_path / "data", frames=3)
    run, said = _run(
        "flare_plasticity", tmp_path, "--config.data.n_train=2", "--config.data.n_test=1", "--config.train.epochs=1",
        "--config.train.batch_size=2", "--config.figures=False",
    )  # fmt: skip
    summary = json.loads((run / "eval.json").read_text())
    assert summary["step"] == 3
    assert len(summary["test/rel_l2_by_frame"]) == 3
    assert "predicting the training mean" in said


def test_messages_along_the_edges_of_the_meshes_of_a_series(tmp_path):
    fake_files.write_mesh_series(tmp_path / "data", "airfoil_dynamic", {"train": (9, 14, 140), "test": (11,)})
    result = pdebench(
        "--config=configs/pde.py:model=mesh_graph_net,data=airfoil_dynamic,smoke", "--config.model.channel_dim=8",
        "--config.model.num_blocks=1", "--config.train.steps=3", "--config.train.epochs=0", "--config.figures=False",
        "--config.data.max_steps=4", "--config.data.n_train=3", "--config.data.n_test=1", "--config.data.buckets=2",
        f"--data_dir={tmp_path / 'data'}", f"--workdir={tmp_path / 'run'}",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "run" / "config.json").read_text())["model_options"]["edge_dim"] == 2
    assert 0 < json.loads((tmp_path / "run" / "eval.json").read_text())["test/rel_l2"] < np.inf


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (
            "mesh_graph_net",
            "elasticity",
            "data set elasticity has no edges of a mesh, along which this model type sends",
        ),
        (
            "flare",
            "lpbf",
            "option config.data.hanging_edges has no effect with model.type=flare, which sends no messages",
        ),
    ],
)
def test_graphs_where_there_is_none(tmp_path, model, data, message):
    more = () if data == "elasticity" else ("--config.data.hanging_edges=False",)
    result = pdebench(
        f"--config=configs/pde.py:model={model},data={data},smoke", *more, f"--workdir={tmp_path / 'run'}"
    )
    assert result.returncode == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    ("config", "write", "more"),
    [
        (
            "flare_darcy",
            lambda data: fake_files.write_darcy(data),
            ("--config.data.side=5", "--config.eval.simple_predictors=True"),
        ),
        (
            "flare_lpbf",
            lambda data: fake_files.write_lpbf(data, {"train": (140, 20, 130, 30), "test": (50, 7)}),
            ("--config.task.original_metric=True", "--config.data.buckets=2", "--config.figures=False"),
        ),
    ],
)
def test_steady_sets(tmp_path, config, write, more):
    write(tmp_path / "data")
    run, _ = _run(config, tmp_path, "--config.data.n_train=4", "--config.data.n_test=2", *more)
    summary = json.loads((run / "eval.json").read_text())
    own = {"flare_darcy": {"test/loss", "test/rel_l2_boosting"}, "flare_lpbf": {"test/original_rel_l2"}}[config]
    assert own | {"test/rel_l2", "test/mse", "test/r2", "test/rel_l2_mean_predictor"} <= set(summary)


def test_options_of_other_data_sets_do_not_exist(tmp_path):
    result = pdebench("--config=configs/flare_pipe.py:smoke", "--config.task.noise=0.1")
    assert result.returncode == 2
    assert "option config.task.noise does not exist" in result.stderr
