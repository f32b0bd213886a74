"""The simple predictors beside every report: what they find, and what is said when a model does not beat them."""

import dataclasses

import numpy as np
import pytest

from data_pipeline.custom.example import write_example
from experiments import report
from experiments.training.tasks.baselines import baseline_error
from experiments.training.tasks.errors import with_units
from experiments.training.tasks.simple import simple_errors
from tests.data_pipeline.custom.test_loader import load as load_own
from tests.experiments.training.test_spread import dataset


def test_simple_predictors_of_a_field_of_the_points():
    """A smooth function of the coordinates, the same in every sample, which both predict well and the mean does not."""
    rng = np.random.default_rng(0)
    points = rng.random((4, 400, 2))
    made = dataset(np.sin(4 * points[..., :1]) * points[..., 1:] * 1e-12)
    split = dataclasses.replace(made.train, x=points.astype(np.float32))
    made = dataclasses.replace(made, train=split, tests={"test": split})
    errors = simple_errors(made)
    assert set(errors) == {"test/rel_l2_nearest", "test/rel_l2_boosting"}
    assert errors["test/rel_l2_nearest"] == 0  # the tests are the training samples
    assert errors["test/rel_l2_boosting"] < 0.1 * baseline_error(made, made.train)


@pytest.mark.parametrize("stream", ["never", "always"])
def test_simple_predictors_of_own_samples(tmp_path, stream):
    """The nearest neighbour found by hand, in units of the spreads of coordinates, inputs and fields."""
    write_example(tmp_path / "own", 8, "npz")
    made = load_own(tmp_path, tmp_path / "own", inputs="angle", targets="pressure,velocity", stream=stream)
    found = simple_errors(made)["test/rel_spread_nearest"]
    files = [sorted((tmp_path / "own" / split).glob("*.npz")) for split in ("train", "test")]
    train, test = ([dict(np.load(file)) for file in some] for some in files)
    x, xs = (
        np.concatenate([np.column_stack([s["points"], np.full(len(s["points"]), s["angle"])]) for s in some])
        for some in (train, test)
    )
    y, ys = (np.concatenate([np.column_stack([s["pressure"], s["velocity"]]) for s in some]) for some in (train, test))
    nearest = np.argmin((((xs[:, None] - x) / x.std(0)) ** 2).sum(-1), axis=1)
    spread = np.array([y[:, 0].std(ddof=1), *[np.sqrt(y[:, 1:].var(0, ddof=1).sum())] * 2])
    expected = np.linalg.norm((y[nearest] - ys) / spread) / np.sqrt(2 * len(ys))
    np.testing.assert_allclose(found, expected, rtol=1e-2)  # of near ties float32 may choose the other


def test_the_field_at_a_given_time():
    """A field that is a line in time, at a speed which only the place decides."""
    rng = np.random.default_rng(0)
    points, times = rng.random((5, 300, 2)), np.linspace(0, 1, 6, dtype=np.float32)
    frames = (1 + 2 * points[:, :, :1, None]) * times[:, None]
    made = dataset(frames, "time_conditioned")
    split = dataclasses.replace(made.train, x=points.astype(np.float32))
    made = dataclasses.replace(made, train=split, tests={"test": split}, times=times)
    errors = simple_errors(made)
    assert errors["test/rel_l2_boosting"] < 0.1 * baseline_error(made, made.train)
    assert errors["test/rel_l2_nearest"] < 0.3 * baseline_error(made, made.train)


def _decaying(kind):
    """Return a field that decays from its first state, at a rate which only the place decides."""
    rng = np.random.default_rng(0)
    points, times = rng.random((6, 200, 2)), np.linspace(0, 2, 5, dtype=np.float32)
    first = rng.uniform(1, 2, (6, 200, 1, 1))
    frames = first * np.exp(-(0.2 + points[:, :, :1, None]) * times[:, None])
    free = np.ones((6, 200), bool)
    free[:, :20] = False
    # What is not predicted would spoil every mean.
    frames[:, :20] = 1e6
    if kind == "mesh_series":
        made = dataset(frames, kind, free=free)
    else:
        made = dataset(frames[:, :, 1:], kind, fx=frames[:, :, 0], mask=free)
        times = times[1:]
    split = dataclasses.replace(made.train, x=points.astype(np.float32))
    return dataclasses.replace(made, train=split, tests={"test": split}, times=times)


@pytest.mark.parametrize("kind", ["mesh_series", "autoregressive"])
def test_series_from_their_given_state(kind):
    made = _decaying(kind)
    errors, persistence = simple_errors(made), baseline_error(made, made.train)
    assert errors["test/rel_l2_boosting"] < 0.1 * persistence
    assert errors["test/rel_l2_nearest"] < 0.4 * persistence


def test_parts_that_grow_have_no_simple_predictors():
    made = dataset(np.random.default_rng(0).normal(size=(3, 8, 5, 1)), "mesh_series", free=np.ones((3, 8), bool))
    object.__setattr__(made, "kind", "layer_series")
    assert simple_errors(made) == {}


def test_a_model_that_does_not_beat_them_is_told_so():
    summary = {"weights": "raw", "test/rel_l2": 0.3, "test/rel_l2_mean_predictor": 0.9, "test/rel_l2_boosting": 0.4}
    (line,) = report.result_lines(summary, "rel_l2")
    assert line.endswith("predicting the training mean 9.0000e-01, gradient boosting on points and inputs 4.0000e-01")
    _, warning = report.result_lines({**summary, "test/rel_l2_nearest": 0.2}, "rel_l2")
    assert warning.startswith(
        "warning: on test the model, with an error of 0.3, does not beat nearest neighbour in points and inputs, 0.2;"
    )


def test_errors_in_the_units_of_the_fields(tmp_path):
    write_example(tmp_path / "own", 8, "npz")
    made = load_own(tmp_path, tmp_path / "own", inputs="angle", targets="pressure,velocity")
    relative = {"rel_spread/pressure": np.array([0.5]), "rel_spread/velocity": np.array([0.25])}
    found = with_units(made, {"test": {"raw": relative}})["test"]["raw"]
    files = [np.load(file) for file in sorted((tmp_path / "own" / "train").glob("*.npz"))]
    pressure, velocity = (np.concatenate([file[name] for file in files]) for name in ("pressure", "velocity"))
    np.testing.assert_allclose(found["rms/pressure"], 0.5 * pressure.std(ddof=1), rtol=1e-5)
    np.testing.assert_allclose(found["rms/velocity"], 0.25 * np.sqrt(velocity.var(0, ddof=1).sum()), rtol=1e-5)
    summary = {"weights": "raw", "test/rel_spread": 0.4, "fields": ["pressure", "velocity"]}
    summary |= {"test/rel_spread/pressure": 0.5, "test/rms/pressure": 7.0, "test/rms/velocity": 8.0}
    assert (
        report.result_lines(summary, "rel_spread")[1]
        == "  pressure 5.0000e-01 (RMS 7.0000e+00), velocity RMS 8.0000e+00"
    )
