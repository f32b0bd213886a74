"""The program as a user runs it: outputs, evaluation from the workdir alone, resume after a kill, several seeds."""

import csv
import json
import shutil

import numpy as np
import pytest

import flare_jax
from experiments.training.ensemble import HALF_WIDTH
from flare_jax.convert.trained import read_prediction
from tests.experiments.programs import TINY, draw_no_more, pdebench, write_darcy_small, write_elasticity
from tests.program_server import run_program

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_elasticity(folder)
    return folder


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory):
    """A run trained to its end."""
    run = tmp_path_factory.mktemp("finished")
    result = pdebench(*TINY, "--config.figures=True", f"--data_dir={data_dir}", f"--workdir={run}")
    assert result.returncode == 0, result.stderr
    shutil.copytree(run, run.with_name("drawing"))
    draw_no_more(run)
    return run, result


def test_a_run_writes_all_its_outputs(finished):
    run, result = finished
    summary = json.loads((run / "eval.json").read_text())
    assert {"test/rel_l2", "test/rel_l2_ema", "test/rel_l2_raw", "train/rel_l2", "test/rel_l2_quantiles"} <= set(
        summary
    )
    assert summary["data"]["kind"] == "public files"
    with (run / "per_case.csv").open() as file:
        rows = list(csv.DictReader(file))
    test = [float(row["rel_l2_ema"]) for row in rows if row["split"] == "test"]
    assert len(test) == 16
    assert len(rows) == 32
    np.testing.assert_allclose(np.mean(test), summary["test/rel_l2"], rtol=1e-6)
    names = {path.name for path in (run / "figures").iterdir()}
    assert names == {"learning_curve.png", "test_best.png", "test_median.png", "test_worst.png"}
    assert "predicting the training mean" in result.stdout
    config = json.loads((run / "config.json").read_text())
    assert config["overrides"]["train.epochs"] == "2"


def test_evaluation_reproduces_the_final_metric_exactly(finished):
    run, _ = finished
    before = json.loads((run / "eval.json").read_text())
    (run / "eval.json").unlink()
    result = pdebench("--mode=eval", f"--workdir={run}")
    assert result.returncode == 0, result.stderr
    assert json.loads((run / "eval.json").read_text()) == before


def test_an_evaluation_takes_other_batches_weights_and_data(finished, data_dir, tmp_path):
    """A model keeps the normalisation that it was trained with: on a tenth of the stress it is not refitted."""
    run, _ = finished
    before = json.loads((run / "eval.json").read_text())
    result = pdebench("--mode=eval", f"--workdir={run}", "--weights=raw", "--batch_size=3")
    assert result.returncode == 0, result.stderr
    other = json.loads((run / "eval_raw.json").read_text())
    assert (other["weights"], other["test/rel_l2"]) == ("raw", other["test/rel_l2_raw"])
    np.testing.assert_allclose(other["test/rel_l2_ema"], before["test/rel_l2_ema"], rtol=1e-5)
    assert json.loads((run / "eval.json").read_text()) == before
    shutil.copytree(run.with_name("drawing"), tmp_path / "run")
    kept = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    folder = write_elasticity(tmp_path / "data")
    stress = np.load(folder / "Random_UnitCell_sigma_10.npy")
    np.save(folder / "Random_UnitCell_sigma_10.npy", stress / 10)
    result = pdebench("--mode=eval", f"--workdir={tmp_path / 'run'}", f"--data_dir={tmp_path / 'data'}")
    assert result.returncode == 0, result.stderr
    assert "is not what this run was trained on" in result.stdout
    (report,) = (tmp_path / "run").glob("eval_elasticity_*.json")
    assert f"results go to {report} and the folder of that name" in result.stdout
    assert json.loads(report.read_text())["test/rel_l2"] > 5
    assert {path: path.read_bytes() for path in kept} == kept
    assert {"per_case.csv", "figures"} <= {path.name for path in report.with_suffix("").iterdir()}
    refused = pdebench(*TINY, f"--data_dir={data_dir}", f"--workdir={tmp_path / 'new'}", "--weights=raw")
    assert refused.returncode == 2
    assert "it goes with --mode=eval: set --config.eval.weights=raw here" in refused.stderr


def test_a_finished_run_started_again_only_evaluates(finished, data_dir):
    run, _ = finished
    log = (run / "metrics.jsonl").read_text()
    result = pdebench(*TINY, f"--data_dir={data_dir}", f"--workdir={run}")
    assert result.returncode == 0, result.stderr
    assert (run / "metrics.jsonl").read_text() == log
    assert "steps are done already" in result.stdout


def test_steps_are_timed_and_nothing_else_is_kept(data_dir, tmp_path):
    result = pdebench(*TINY, f"--data_dir={data_dir}", f"--workdir={tmp_path / 'run'}", "--mode=time")
    assert result.returncode == 0, result.stderr
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["timing.json"]
    costs = json.loads((tmp_path / "run" / "timing.json").read_text())
    assert costs["epoch_s"] == pytest.approx(4e-3 * costs["step_ms"])
    assert f"{costs['parameters']:,} parameters" in result.stdout


def test_changed_data_is_noticed(finished, data_dir, tmp_path):
    run, _ = finished
    folder = write_elasticity(tmp_path)
    values = np.load(folder / "Random_UnitCell_sigma_10.npy")
    np.save(folder / "Random_UnitCell_sigma_10.npy", values * 1.01)
    (tmp_path / "copy").mkdir()
    result = pdebench("--mode=eval", f"--workdir={run}", f"--data_dir={tmp_path}", "--step=8")
    assert "not what this run was trained on" in result.stdout
    (report,) = run.glob("eval_step_8_elasticity_*.json")
    assert report.with_suffix("").is_dir()


def test_missing_data_is_generated_and_labelled(tmp_path):
    changes = ("--config.data.source=auto", "--config.data.num_generate=6", "--config.data.n_train=4")
    more = ("--config.data.n_test=2", "--config.train.epochs=1")
    run = tmp_path / "run"
    result = pdebench(*TINY, *changes, *more, f"--data_dir={tmp_path / 'data'}", f"--workdir={run}")
    assert result.returncode == 0, result.stderr
    assert "NOT the public set" in result.stdout
    assert json.loads((run / "eval.json").read_text())["data"]["detail"]["num"] == 6
    assert json.loads((run / "config.json").read_text())["data"]["kind"] == "generated"


def test_small_darcy_is_tested_at_both_resolutions(tmp_path):
    write_darcy_small(tmp_path / "data")
    sizes = {"channel_dim": 8, "num_blocks": 1, "num_heads": 2, "num_latents": 4}
    layers = ("k_proj", "v_proj", "ffn", "in_out_proj")
    sizes |= {f"num_layers_{name}": 0 for name in layers}
    result = pdebench(
        "--config=configs/flare_darcy_small.py:smoke", *(f"--config.model.{name}={n}" for name, n in sizes.items()),
        "--config.data.n_train=4", "--config.data.n_test=4", "--config.train.epochs=1",
        "--config.train.batch_size=4", "--config.eval.simple_predictors=False",
        f"--data_dir={tmp_path / 'data'}", f"--workdir={tmp_path / 'run'}",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    summary = json.loads((tmp_path / "run" / "eval.json").read_text())
    assert {"test/rel_l2", "test_32/rel_l2", "test_32/rel_l2_mean_predictor"} <= set(summary)
    assert (tmp_path / "run" / "figures" / "test_32_worst.png").exists()
    # The energy of all wave numbers is the mean square of the fields, at each resolution on its grid.
    analysed = pdebench("--mode=analyze", f"--workdir={tmp_path / 'run'}")
    assert analysed.returncode == 0, analysed.stderr
    for name, side in (("test", 16), ("test_32", 32)):
        content = json.loads((tmp_path / "run" / "analysis" / f"{name}_energy.json").read_text())
        assert content["grid"] == [side, side]
        np.testing.assert_allclose(np.sum(content["error"]), summary[f"{name}/mse"], rtol=1e-3)
        files = np.load(tmp_path / "data" / "darcy_small" / f"darcy_test_{side}.npz")
        np.testing.assert_allclose(np.sum(content["truth"]), np.mean(files["y"][-4:] ** 2), rtol=1e-4)
        assert (tmp_path / "run" / "analysis" / f"{name}_energy.png").exists()


def _cut_newest_checkpoint(run):
    newest = max((run / "checkpoints").iterdir(), key=lambda path: int(path.name) if path.name.isdigit() else -1)
    for path in (newest / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return newest


def test_truncated_checkpoint_is_reported_and_the_previous_one_used(finished, data_dir, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished[0], run)
    arguments = (*TINY, f"--data_dir={data_dir}", f"--workdir={run}")
    want = json.loads((run / "eval.json").read_text())
    newest = _cut_newest_checkpoint(run)
    evaluated = pdebench("--mode=eval", f"--workdir={run}")
    assert f"checkpoint {newest}" in evaluated.stdout
    assert json.loads((run / "eval.json").read_text())["step"] < want["step"]
    named = pdebench("--mode=eval", f"--workdir={run}", f"--step={newest.name}")
    assert named.returncode == 2
    assert f"checkpoint {newest}" in named.stderr
    # Training goes on from the previous one and ends where it ended before.
    resumed = pdebench(*arguments)
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming from step" in resumed.stdout
    assert json.loads((run / "eval.json").read_text()) == want


def test_several_seeds_are_summarised(data_dir, tmp_path):
    run = tmp_path / "run"
    common = (*TINY, "--config.train.epochs=1", f"--data_dir={data_dir}")
    result = pdebench(*common, f"--workdir={run}", "--config.train.seeds=3,5")
    assert result.returncode == 0, result.stderr
    combined = json.loads((run / "eval.json").read_text())
    reports = [json.loads((run / f"seed_{seed}" / "eval.json").read_text()) for seed in (3, 5)]
    values = [report["test/rel_l2"] for report in reports]
    assert values[0] != values[1]
    assert combined["test/rel_l2"]["values"] == values
    np.testing.assert_allclose(combined["test/rel_l2"]["std"], np.std(values, ddof=1))
    assert "±" in result.stdout
    # The mean of two predictions is at least as near in the mean of the squares, and what they differ by is reported.
    assert combined["test/rel_l2_ensemble"] < combined["test/rel_l2"]["mean"]
    assert combined["spread"]["calibrated_on"] == "the first half of test"
    assert 0 < combined["spread"]["coverage"]["the second half of test"] <= 1
    assert f"of the averaged prediction {combined['test/rel_l2_ensemble']:.4e}" in result.stdout
    assert "90 % intervals of the spread over seeds times" in result.stdout
    # Together in one program they are the same.
    together = tmp_path / "together"
    result = pdebench(*common, f"--workdir={together}", "--config.train.seeds=3,5", "--config.train.parallel_seeds=2")
    assert result.returncode == 0, result.stderr
    assert "seeds 3, 5 in one program" in result.stdout
    assert json.loads((together / "eval.json").read_text()) == combined
    # The folder of a seed is that of a run of its own.
    alone = pdebench(*common, f"--workdir={together / 'seed_5'}", "--config.train.seeds=5")
    assert alone.returncode == 0, alone.stderr
    assert "steps are done already" in alone.stdout
    assert json.loads((together / "seed_5" / "eval.json").read_text()) == reports[1]
    evaluated = pdebench("--mode=eval", f"--workdir={together / 'seed_3'}", "--step=4")
    assert evaluated.returncode == 0, evaluated.stderr
    assert json.loads((together / "seed_3" / "eval_step_4.json").read_text()) == reports[0]
    _predicts_with_both(together, data_dir, tmp_path, combined["spread"])


def _predicts_with_both(run, data_dir, folder, spread):
    """Check what a prediction with the run's seeds 3 and 5 writes and says."""
    meshes = data_dir / "Geo-FNO" / "elasticity" / "Meshes"
    points, stress = (np.load(meshes / f"Random_UnitCell_{name}_10.npy")[..., -1] for name in ("XY", "sigma"))
    (target,) = read_prediction(run)["targets"]
    np.savez(folder / "case.npz", points=points, **{target: stress})
    result = run_program(
        "experiments.predict", [f"--workdir={run}", f"--input={folder / 'case.npz'}", f"--output={folder / 'out.npz'}"]
    )
    assert result.returncode == 0, result.stderr
    assert "mean and standard deviation over the seeds 3, 5" in result.stdout
    assert f"calibrated on {spread['calibrated_on']}" in result.stdout
    made = np.load(folder / "out.npz")
    members = flare_jax.load_ensemble(run).members
    both = np.stack([member.predict(points)[target][:, 0] for member in members.values()])
    np.testing.assert_allclose(made[f"{target}_predicted"], both.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(made[f"{target}_std"], both.std(axis=0, ddof=1), rtol=1e-3, atol=1e-5)
    within = np.abs(made[f"{target}_error"]) <= spread["factor"] * HALF_WIDTH * made[f"{target}_std"]
    errors = json.loads((folder / "out.errors.json").read_text())["case"][target]
    np.testing.assert_allclose(errors["coverage_90"], within.mean(), atol=2e-3)
    assert f"90 % intervals hold {100 * errors['coverage_90']:.1f} % of the truth" in result.stdout
    assert set(np.load(folder / "case.npz")) < set(made)
