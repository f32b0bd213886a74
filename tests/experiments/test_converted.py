"""A checkpoint of the original, made of a run of ours, is evaluated to the same numbers as that run."""

import json
import shutil
import sys

import numpy as np
import pytest
import yaml

from tests.experiments.programs import TINY, write_elasticity
from tests.program_server import Program, run_program

# What the original's config.yaml says of TINY, on the number of samples that the data set has by definition.
FIELDS = {
    "dataset": "elasticity",
    "model_type": "flare",
    "use_defaults": False,
    "channel_dim": 8,
    "num_blocks": 1,
    "num_heads": 2,
    "num_latents": 4,
    "num_layers_k_proj": 0,
    "num_layers_v_proj": 0,
    "num_layers_ffn": 0,
    "num_layers_in_out_proj": 0,
    "epochs": 7,
    "steps": 0,
    "batch_size": 3,
    "learning_rate": 0.002,
    "ema": True,
    "ema_decay": 0.9,
    "one_cycle_override_min_lr": None,
    "seed": 4,
}


# As many samples as the data set has by definition, but of few points.
POINTS = 72
_ON_FEW_POINTS = f"""
import runpy
from data_pipeline.pde import elasticity
elasticity.POINTS = {POINTS}
runpy.run_module("experiments.pdebench", run_name="__main__", alter_sys=True)
"""


def pdebench(*arguments):
    """Run `python -m experiments.pdebench` on samples of POINTS points."""
    return Program([sys.executable, "-c", _ON_FEW_POINTS, *arguments], env=None, largest_file_kib=None).result()


def convert(*arguments):
    """Run `python -m flare_jax.convert` from the repository root."""
    return run_program("flare_jax.convert", [*map(str, arguments)])


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_elasticity(folder, samples=1200, num_points=POINTS)
    return folder


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    """A finished run of ours."""
    folder = tmp_path_factory.mktemp("run")
    sizes = ("--config.data.n_train=1000", "--config.data.n_test=200", "--config.train.batch_size=100")
    result = pdebench(
        *TINY, *sizes, "--config.train.epochs=1", "--config.train.ema_decay=0.9",
        f"--data_dir={data_dir}", f"--workdir={folder}",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def converted(run, tmp_path_factory):
    """The same weights, out to the original's format and in again."""
    folder = tmp_path_factory.mktemp("converted")
    both = {}
    for kind, prefix in (("raw", "model_state"), ("ema", "ema_shadow")):
        exported = convert(run, "--to-torch", f"--out={folder / kind}.npz", f"--weights={kind}")
        assert exported.returncode == 0, exported.stderr
        with np.load(folder / f"{kind}.npz") as arrays:
            both |= {f"{prefix}/_orig_mod.{name}": arrays[name] for name in arrays.files}
    exported = convert(run, "--to-torch", f"--out={folder / 'default'}.npz")
    assert "entries, ema weights" in exported.stdout  # those that the run reports
    with np.load(folder / "default.npz") as default, np.load(folder / "ema.npz") as ema:
        for name in ema.files:
            np.testing.assert_array_equal(default[name], ema[name])
    np.savez(folder / "model.npz", **both)
    (folder / "config.yaml").write_text(yaml.safe_dump(FIELDS))
    result = convert(folder / "model.npz", f"--config={folder / 'config.yaml'}", f"--out={folder / 'workdir'}")
    assert result.returncode == 0, result.stderr
    assert "raw and ema weights; evaluate it with" in result.stdout
    return folder / "workdir"


@pytest.fixture(scope="module")
def evaluated(converted, data_dir):
    """The report of the converted model's first evaluation."""
    result = pdebench("--mode=eval", f"--workdir={converted}", f"--data_dir={data_dir}")
    assert result.returncode == 0, result.stderr
    # That so small a model is no better than a simple prediction is all there is to warn of.
    assert not [
        line for line in result.stdout.split("\n") if line.startswith("warning") and "does not beat" not in line
    ]
    return json.loads((converted / "eval.json").read_text())


def test_evaluation_gives_the_numbers_of_the_run(run, evaluated):
    expected = json.loads((run / "eval.json").read_text())
    assert expected["test/rel_l2_raw"] != expected["test/rel_l2_ema"]
    for name in ("test/rel_l2_raw", "test/rel_l2_ema", "train/rel_l2_raw", "train/rel_l2_ema"):
        np.testing.assert_allclose(evaluated[name], expected[name], rtol=1e-6, err_msg=name)
    assert (
        evaluated["test/rel_l2"] == evaluated["test/rel_l2_raw"]
    )  # the original's headline is that of the raw weights
    assert evaluated["parameters"] == expected["parameters"]


def test_the_originals_settings_are_in_the_config(converted, evaluated):
    content = json.loads((converted / "config.json").read_text())
    config = content["config"]
    assert (config["train"]["epochs"], config["train"]["batch_size"], config["train"]["seeds"]) == (7, 3, [4])
    assert config["train"]["ema_decay"] == 0.9
    assert config["optimizer"]["learning_rate"] == 0.002
    assert config["model"]["type"] == "flare"
    assert content["converted_from"]["file"] == "model.npz"


def test_analysis_opens_the_folder_too(converted, data_dir):
    """Also before any evaluation, and again with what the config file then says."""
    (converted / "config.json").unlink(missing_ok=True)
    result = pdebench("--mode=analyze", f"--workdir={converted}", f"--data_dir={data_dir}")
    assert result.returncode == 0, result.stderr
    assert (converted / "analysis" / "spectra.pdf").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--mode=eval", "--step=3"), "--step=3 chooses among checkpoints"),
        ((*TINY, "--mode=train"), "holds a converted model, which is evaluated only"),
    ],
)
def test_refusals(converted, data_dir, arguments, words):
    result = pdebench(*arguments, f"--workdir={converted}", f"--data_dir={data_dir}")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert words in result.stderr
    assert "training samples" not in result.stdout, "nothing is loaded before"


def test_a_step_that_is_not_there(run, tmp_path):
    result = convert(run, "--to-torch", f"--out={tmp_path / 'a.npz'}", "--step=999")
    assert result.returncode == 2
    assert "--step=999 is not among the checkpoints" in result.stderr


def test_damaged_checkpoints_are_not_exported(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    newest = max((copy / "checkpoints").iterdir(), key=lambda path: int(path.name))
    record = newest / "record" / "metadata"
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"weights_digest": "0" * 64}))
    result = convert(copy, "--to-torch", f"--out={tmp_path / 'a.npz'}")
    assert result.returncode == 2
    assert "does not match its own hash; choose another with --step" in result.stderr
    for path in (newest / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    result = convert(copy, "--to-torch", f"--out={tmp_path / 'a.npz'}")
    assert result.returncode == 2
    assert "cannot be read" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "a.npz").exists()
