"""The comparison of mixers at toy size: continuation, matched widths, options behind colons, the figure."""

import json

import pytest

from benchmarks import comparison
from tests.experiments.programs import write_elasticity


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_elasticity(folder, samples=240)
    return folder


def test_runs_are_continued_and_drawn(tmp_path, data_dir, capsys):
    output, figure = tmp_path / "out.json", tmp_path / "figure.png"
    spec = "flare_pp:num_layers_ffn=0:optimizer.learning_rate=5e-4"
    common = ["--smoke", f"--models={spec}", "--blocks=1", "--epochs=1", f"--data_dir={data_dir}"]
    assert comparison.main([*common, f"--output={output}", "--seconds=0"]) == 0
    assert "1 runs are missing: call again" in capsys.readouterr().out
    assert comparison.main([*common, f"--output={output}", f"--figure={figure}"]) == 0
    (row,) = json.loads(output.read_text())["rows"].values()
    (run,) = row["seeds"].values()
    assert set(run["errors"]) == {"ema", "raw"}
    assert all(0 < error < 10 for error in run["errors"].values())
    assert run["train_s"] > 0
    text = capsys.readouterr().out
    assert f"| {spec} 1 blocks |" in text
    assert "| 0 % |" in text
    assert figure.stat().st_size > 1000
    # The seeds that are missing are trained together; the first stays what it is.
    assert comparison.main([*common, f"--output={output}", "--seeds=0,1,2", "--parallel_seeds=4"]) == 0
    (row,) = json.loads(output.read_text())["rows"].values()
    assert row["seeds"]["0"] == run
    assert [seed["parallel_seeds"] for seed in row["seeds"].values()] == [1, 2, 2]
    assert "| 3 |" in capsys.readouterr().out


def test_widths_are_matched_and_options_are_those_of_the_spec():
    options = comparison.parse(["--models=flare", "--output=x", "--parameters=592641", "--epochs=3"])
    assert comparison.configuration("flare", options).model.channel_dim == 64
    config = comparison.configuration("flarepp:latent_std=1.0:optimizer.weight_decay=0.1", options)
    assert abs(comparison.parameter_count(config) / 592_641 - 1) < 0.02
    assert (config.model.latent_std, config.optimizer.weight_decay, config.train.epochs) == (1.0, 0.1, 3)
