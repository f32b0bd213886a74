"""Runs that begin with the weights of others, as a user makes them."""

import json
import shutil

import numpy as np
import pytest

from data_pipeline.normalizer import Normalizer
from experiments.errors import UserError
from experiments.pdebench.normalizers import with_normalizers
from experiments.predict.signature import signature_of
from experiments.training.records import read_log
from flare_jax.convert.runs import read_run
from tests.data_pipeline.custom.test_loader import load as load_own
from tests.experiments.programs import TINY, pdebench, write_elasticity


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_elasticity(folder)
    return folder


@pytest.fixture(scope="module")
def source(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    result = pdebench(*TINY, f"--data_dir={data}", f"--workdir={folder}")
    assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.slow
def test_a_run_begins_where_another_ended(data, source, tmp_path):
    given = tmp_path / "given"
    shutil.copytree(source, given)
    options = (
        *TINY, "--config.train.epochs=1", f"--data_dir={data}",
        f"--workdir={tmp_path / 'run'}", f"--config.train.init_from={given}", "--config.train.freeze=blocks.*",
        "--config.train.init_normalizers=keep", "--config.train.init_strict=True",
    )  # fmt: skip
    result = pdebench(*options)
    assert result.returncode == 0, result.stderr
    assert f"starting from {given} (ema weights)" in result.stdout
    first = next(line for line in read_log(tmp_path / "run" / "metrics.jsonl") if line["event"] == "eval")
    reported = json.loads((source / "eval.json").read_text())["test/rel_l2_ema"]
    assert first["step"] == 0
    np.testing.assert_allclose([first["test/rel_l2_ema"], first["test/rel_l2_raw"]], reported, rtol=1e-5)
    before, after = read_run(source).weights["ema"], read_run(tmp_path / "run").weights
    for kind in ("raw", "ema"):
        same = {name for name, value in after[kind].items() if (value == before[name]).all()}
        assert same >= {name for name in before if name.startswith("blocks.")}
        assert any(not name.startswith("blocks.") for name in set(before) - same)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["started_from"]["weights"].startswith(str(given))
    # Neither evaluation nor going on needs what it began with.
    shutil.rmtree(given)
    metric = json.loads((tmp_path / "run" / "eval.json").read_text())["test/rel_l2"]
    for arguments in (("--mode=eval", f"--workdir={tmp_path / 'run'}"), options):
        result = pdebench(*arguments)
        assert result.returncode == 0, result.stderr
        assert json.loads((tmp_path / "run" / "eval.json").read_text())["test/rel_l2"] == metric


@pytest.mark.slow
def test_refusals_come_before_the_data(source, tmp_path):
    for arguments, words in (
        (["--config.train.init_from=nowhere"], "train.init_from=nowhere does not exist"),
        (["--config.train.init_strict=True"], "config.train.init_strict has no effect without train.init_from"),
    ):
        result = pdebench(*TINY, f"--data_dir={tmp_path}", f"--workdir={tmp_path / 'run'}", *arguments)
        assert result.returncode == 2
        assert words in result.stderr
        assert not (tmp_path / "run" / "checkpoints").exists()


def test_runs_of_before_the_options_are_still_evaluated(source, tmp_path):
    from experiments import workdir

    content = json.loads((source / "config.json").read_text())
    for name in ("init_from", "init_weights", "init_strict", "init_normalizers", "freeze"):
        del content["config"]["train"][name]
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert workdir.load_run_config(tmp_path).train.init_normalizers == "refit"


def test_kept_normalizers_change_no_value(tmp_path):
    """Decoded inputs and targets are the same numbers, and predictions are decoded as those of the other run."""
    rng = np.random.default_rng(0)
    for number in range(4):
        folder = tmp_path / ("test" if number == 3 else "train")
        folder.mkdir(exist_ok=True)
        points = 4.6e6 + rng.random((20 + number, 2))
        np.savez(folder / f"{number}.npz", points=points, angle=rng.random(), p=1e5 + 50 * rng.normal(size=len(points)))
    dataset = load_own(tmp_path, tmp_path, inputs="angle", targets="p")
    content = signature_of(dataset).to_json()
    shifted = {**content, "x_mean": [4.6e6 + 3, 4.6e6 - 1, 0.2], "x_std": [2.0, 3, 0.1], "scales": [7.0]}
    shifted["y_mean"] = [1e5 / 7 + 2.0]
    kept = with_normalizers(dataset, shifted, "other")
    for old, new in ((dataset.train, kept.train), (dataset.tests["test"], kept.tests["test"])):
        real = np.ones(old.x.shape[:2], bool) if old.mask is None else old.mask
        first, second = dataset.x_normalizer.decode(old.x)[real], kept.x_normalizer.decode(new.x)[real]
        np.testing.assert_allclose(first, second, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(new.x[~real], 0)
        np.testing.assert_array_equal(old.y, new.y)
    outputs = np.float32([[0.0], [1.0]])
    there = signature_of(kept).codec.decode(outputs)["p"]
    expected = (outputs * np.float64(content["y_std"]) + shifted["y_mean"]) * 7
    np.testing.assert_allclose(there, expected, rtol=1e-12)
    again = with_normalizers(kept, json.loads(json.dumps(signature_of(kept).to_json())), "itself")
    assert isinstance(again.x_normalizer, Normalizer)
    np.testing.assert_array_equal(again.train.x, kept.train.x)
    with pytest.raises(UserError, match="the normalisation of other is for its coordinates, inputs and targets"):
        with_normalizers(dataset, {**shifted, "targets": {"q": 1}}, "other")
