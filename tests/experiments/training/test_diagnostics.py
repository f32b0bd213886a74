"""What mixers say of themselves in training: which steps, of which batch, and the summary."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.train_step import random_dataset, setup_of
from configs import flarepp_elas
from experiments.errors import NotFiniteError
from experiments.training.diagnostics import flat, nested, summary
from experiments.training.loop import train
from experiments.training.mesh import make_mesh
from experiments.training.records import read_log
from experiments.training.setup import build_setup
from experiments.training.task import Loss
from experiments.training.tasks.regression import regression_task
from tests.experiments.training import fields
from tests.experiments.training.toy import losses_of, toy_config, toy_params, toy_task


def toy(every=5):
    def diagnostics(params, batch, key):
        slope = params["a.kernel"][0, 0]
        return {"blocks": [{"slope": slope, "gate": jnp.nan * slope}], "mean": {"largest": jnp.max(batch["x"])}}

    return replace(toy_task(), diagnostics=diagnostics, diagnostics_every=every)


def train_toy(folder, task, **changes):
    setup = build_setup(task, toy_params(), toy_config(**changes), 0, make_mesh(1, 1))
    return train(setup, toy_config(**changes), folder, quiet=True)


def test_every_fifth_step_is_written_with_what_the_step_begins_with(tmp_path):
    train_toy(tmp_path, toy())
    lines = read_log(tmp_path / "diagnostics.jsonl")
    assert [line["step"] for line in lines] == [1, 6, 11, 16, 21]
    assert lines[0]["blocks"] == [{"slope": 0.5, "gate": None}]
    assert lines[0]["mean"]["largest"] in toy_task().train["x"]
    assert json.loads((tmp_path / "diagnostics.json").read_text()) == {
        "lines": 5,
        "last": lines[-1]["mean"],
        "first_not_finite": {"step": None, "names": []},
    }
    # The state and the log of the training are those of a run without.
    (tmp_path / "plain").mkdir()
    train_toy(tmp_path / "plain", toy_task())
    own, plain = (read_log(folder / "metrics.jsonl") for folder in (tmp_path, tmp_path / "plain"))
    assert [line.get("loss") for line in own] == [line.get("loss") for line in plain]
    assert not (tmp_path / "plain" / "diagnostics.jsonl").exists()


def test_the_step_that_ends_a_training_is_there(tmp_path):
    task, plain = toy(every=1), toy_task()

    def error(prediction, batch):
        return 1e38 * (1e38 * plain.metrics["error"](prediction, batch))

    task = replace(task, loss=Loss.of_prediction(plain.predict, error))
    with pytest.raises(NotFiniteError, match="became NaN or infinite at step"):
        train_toy(tmp_path, task, clip_norm=0.0)
    found = json.loads((tmp_path / "diagnostics.json").read_text())["first_not_finite"]
    assert found["names"] == ["blocks/0/slope"]
    assert found["step"] > 1


def test_the_summary_names_what_stopped_being_finite():
    numbers = {"mean/a": 1.0, "blocks/0/a": 1.0, "blocks/1/a": None}
    assert flat(nested(numbers)) == numbers
    lines = [{"step": step, **nested({**numbers, "mean/a": value})} for step, value in ((1, 2.0), (3, None))]
    assert summary(lines)["first_not_finite"] == {"step": 3, "names": ["mean/a"]}


def test_statistics_are_those_of_the_points_that_the_step_trains_on():
    dataset = fields.make("toy", *[fields.clouds().train] * 2, "steady")
    dataset = replace(dataset, train=replace(dataset.train, mask=None))
    seen = []

    def apply(params, x, mask, return_statistics=False):
        seen.append(x)
        return (x[..., :1], {"blocks": [{"a": x.sum()}], "mean": {}}) if return_statistics else x[..., :1]

    task = regression_task(dataset, apply, 1, ("return_statistics",), points_per_step=4, diagnostics=2)
    batch, key = {name: jnp.asarray(value) for name, value in task.train.items()}, jax.random.key(3)
    losses_of(task, {}, batch, key)
    task.diagnostics({}, batch, key)
    np.testing.assert_array_equal(*seen)
    assert task.diagnostics_every == 2


def test_a_model_of_flarepp_says_how_its_mixers_are(tmp_path):
    config = flarepp_elas.get_config("smoke")
    config.model.update({"num_blocks": 1, "channel_dim": 8, "num_heads": 2, "num_latents": 4})
    config.train.update({"epochs": 1, "batch_size": 2})
    config.task.diagnostics = 2
    setup = setup_of(config, random_dataset("elasticity", 8))
    train(setup, config, tmp_path, quiet=True)
    lines = read_log(tmp_path / "diagnostics.jsonl")
    assert [line["step"] for line in lines] == [1, 3]
    assert lines[0]["mean"]["gate_value"] == pytest.approx(1 / (1 + np.exp(-0.25)))
    assert 0 < lines[1]["blocks"][0]["synth_n_eff"] <= 972
