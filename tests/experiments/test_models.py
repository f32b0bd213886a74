"""Options of a run's model: as text, from the data set, and checked before any data is read."""

import dataclasses
from contextlib import nullcontext

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import pde
from data_pipeline.dataset import PDEDataset, Source, Split
from data_pipeline.errors import DataError
from data_pipeline.normalizer import Normalizer
from experiments.errors import UserError
from experiments.pdebench import models


def dataset(points=12, channels=3, grid_shape=(3, 4), **extra):
    """A small data set, with the same number of points in both of its tests unless the grid is another one."""
    x = np.random.default_rng(0).random((5, points, channels)).astype(np.float32)
    y = np.ones((5, points, 1), np.float32)
    split, other = Split(x, y, **extra), Split(x[:, :6], y[:, :6])
    tests = {"test": split, "test_6": other}
    return PDEDataset(
        "toy", split, tests, Normalizer.identity(channels), Normalizer.identity(1), Source("", ""), "y", grid_shape
    )


def options(section, facts=None):
    return models.model_options(ConfigDict(section), facts or models.data_facts(dataset()))


def test_facts_of_a_data_set():
    x = dataset().train.x
    facts = models.data_facts(dataset(), points_multiple=5)
    assert (facts.max_length, facts.grid_shape, facts.fun_dim, facts.has_time) == (15, (3, 4), 0, False)
    np.testing.assert_array_equal(facts.low, x.min((0, 1)))
    mask = np.zeros((5, 12), bool)
    mask[:, 3:7] = True
    masked = models.data_facts(dataset(mask=mask))
    np.testing.assert_array_equal(masked.high, x[:, 3:7].max((0, 1)))
    rich = models.data_facts(dataset(fx=np.zeros((5, 12, 7), np.float32), time=np.zeros(5, np.float32)))
    assert (rich.fun_dim, rich.has_time) == (7, True)


def test_options_from_the_data_set():
    facts = models.data_facts(dataset())
    assert options({"type": "transolver", "grid_shape": "data"})["grid_shape"] == (3, 4)
    assert options({"type": "linformer", "seq_len": "data"})["seq_len"] == 12
    upt = options({"type": "upt", "space_dim": 2, "coord_min": "data", "coord_scale": "data"})
    assert upt["coord_min"] == facts.low[:2]
    extent = max(facts.high[axis] - facts.low[axis] for axis in (0, 1))
    np.testing.assert_allclose(upt["coord_scale"] * extent, 200)
    rich = models.data_facts(dataset(fx=np.zeros((5, 12, 7), np.float32), time=np.zeros(5, np.float32)))
    gnot = options({"type": "gnot", "fun_dim": 0, "time_input": False}, rich)
    assert (gnot["fun_dim"], gnot["time_input"]) == (7, True)


def test_options_as_text_and_from_json():
    assert options({"type": "transolver", "grid_shape": "(3, 4)"})["grid_shape"] == (3, 4)
    assert options({"type": "transolver", "grid_shape": [3, 4]})["grid_shape"] == (3, 4)
    assert options({"type": "transolver", "grid_shape": None})["grid_shape"] is None
    assert options({"type": "upt", "coord_scale": "2.5"})["coord_scale"] == 2.5
    assert options({"type": "flare", "attn_scale": "0.5"})["attn_scale"] == 0.5
    assert options({"type": "flare", "attn_scale": "sqrt", "act": "silu"}) == {"attn_scale": "sqrt", "act": "silu"}


@pytest.mark.parametrize(
    ("section", "facts", "message"),
    [
        ({"type": "transolver", "grid_shape": "data"}, {"grid_shape": None}, "data set toy are no grid"),
        ({"type": "transolver", "num_slices": "data"}, {}, "decide only grid_shape, seq_len, coord_min, coord_scale"),
        ({"type": "transolver", "grid_shape": "3 by 4"}, {}, r"model.grid_shape='3 by 4' is not understood"),
    ],
)
def test_options_that_cannot_be(section, facts, message):
    with pytest.raises(UserError, match=message):
        options(section, models.data_facts(dataset(**facts)))


def test_a_model_of_one_grid_is_tested_on_it_alone():
    said = []
    fitting = models.fitting_tests(dataset(), {"grid_shape": (3, 4)}, said.append)
    assert list(fitting.tests) == ["test"]
    assert said == ["test_6 left out: this model is bound to the grid (3, 4)"]
    assert models.fitting_tests(dataset(), {"grid_shape": None}, said.append).tests.keys() == {"test", "test_6"}
    with pytest.raises(UserError, match=r"grid_shape=\(5, 5\) has 25 points, but the samples of toy have 12"):
        models.fitting_tests(dataset(), {"grid_shape": (5, 5)}, said.append)
    swapped = dataset()
    swapped = dataclasses.replace(swapped, tests={"test": swapped.tests["test_6"]})
    with pytest.raises(UserError, match="does not fit the test samples of toy"):
        models.fitting_tests(swapped, {"grid_shape": (3, 4)}, said.append)


def test_a_model_of_one_grid_is_split_evenly_or_not_at_all():
    message = (
        r"mesh.points=2 does not divide the 63 points of model.grid_shape=\(7, 9\), which cannot be padded; choose "
        "among 1, 3, or split the samples by mesh.data"
    )
    with pytest.raises(UserError, match=message):
        models.check_grid_split({"grid_shape": (7, 9)}, 2)
    models.check_grid_split({"grid_shape": (7, 9)}, 3)
    models.check_grid_split({"grid_shape": None}, 2)
    models.check_grid_split({}, 2)


def test_inputs_of_calls():
    assert {"x", "mask", "key", "fx", "time"} <= models.call_inputs("gnot")
    assert {"x", "mask", "return_scores"} <= models.call_inputs("flare")
    assert "key" not in models.call_inputs("perceiverio")


@pytest.mark.parametrize("argument", ["model=gnot,data=darcy", "model=upt,data=darcy", "model=lamo,data=pipe,conv2d"])
def test_models_that_take_options_from_the_data_are_checked_without_it(argument):
    config = pde.get_config(f"{argument},smoke")
    models.check_model(config)
    config.model.mlp_ratio = -1.0
    with pytest.raises(ValueError, match="mlp_ratio"):
        models.check_model(config)


@pytest.mark.parametrize(
    ("model", "task", "words"),
    [
        (
            "backbone_mha",
            {"points_per_piece": 50},
            "task.points_per_piece=50, but points in pieces need a mixer",
        ),
        ("gnot", {"points_per_piece": 50}, "task.points_per_piece=50, but this model type predicts all points at once"),
        ("flare", {"diagnostics": 10}, "task.diagnostics=10, but the mixers of this model type say nothing"),
        ("flarepp", {"points_per_piece": 50, "diagnostics": 10}, ""),
    ],
)
def test_what_a_task_wants_of_the_model_is_checked_with_it(model, task, words):
    config = pde.get_config(f"model={model},data=elasticity,smoke")
    config.task.update(task)
    with pytest.raises(UserError, match=words) if words else nullcontext():
        models.check_model(config)


@pytest.mark.parametrize(
    ("argument", "option"),
    [("model=linformer,data=elasticity", "seq_len"), ("model=lamo,data=pipe,conv2d", "grid_shape")],
)
def test_random_points_are_refused_by_models_that_are_bound_to_their_order(argument, option):
    config = pde.get_config(f"{argument},smoke")
    config.data.points_per_step = 100
    words = f"data.points_per_step=100 takes random points of each sample, but model type '{config.model.type}' has"
    with pytest.raises(UserError, match=rf"{words} weights for each place in their order \(model.{option}\)"):
        models.check_model(config)


def test_inputs_beside_the_points_are_checked_with_their_data():
    with pytest.raises(DataError, match="features fx"):
        Split(np.zeros((2, 3, 1), np.float32), np.zeros((2, 3, 1), np.float32), fx=np.zeros((2, 4, 1), np.float32))
    with pytest.raises(DataError, match="and times"):
        Split(np.zeros((2, 3, 1), np.float32), np.zeros((2, 3, 1), np.float32), time=np.zeros(3, np.float32))
