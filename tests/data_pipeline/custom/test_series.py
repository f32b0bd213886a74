"""Series in time: which files are the steps of which case, splits by case, rollouts and moving points."""

import json

import numpy as np
import pytest

from data_pipeline.custom.folder import find_samples
from data_pipeline.errors import DataError
from tests.data_pipeline.custom.files import CELLS
from tests.data_pipeline.custom.test_loader import load

STEPS = 4


def step(case: int, number: int, moving: bool = False, points: int = 6) -> dict[str, np.ndarray]:
    """Return a step of a series with a field that decays, on points that turn if they move."""
    rng = np.random.default_rng(case)
    places, start = rng.uniform(-1, 1, (points + case, 2)), rng.uniform(1, 2, points + case)
    turn = 0.1 * number * moving
    return {
        "points": places @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]),
        "heat": 100 * start * 0.9**number,
        "flow": 5 * rng.normal(size=(points + case, 2)) * (1 + number),
        "wall": (np.arange(points + case) < 2).astype(float),
        "rate": np.float64(case),
        "time": np.float64(0.5 * number),
        "cells": CELLS,
    }


def write_series(folder, cases=4, steps=STEPS, **options):
    for case in range(cases):
        (folder / f"case_{case}").mkdir(parents=True)
        for number in range(steps):
            np.savez(folder / f"case_{case}" / f"step_{number}.npz", **step(case, number, **options))
    return folder


def roll(tmp_path, folder, **options):
    given = {"inputs": "rate", "targets": "heat,flow", "time": "rollout", "n_test": 1}
    return load(tmp_path, folder, **{**given, **options})


def test_steps_are_in_folders_names_or_collections(tmp_path):
    write_series(tmp_path / "cases", 2)
    (tmp_path / "flat").mkdir()
    for name in ("a_0", "a_1", "a_10", "a_2", "b1", "b2"):
        np.savez(tmp_path / "flat" / f"{name}.npz", **step(0, 0))
    (tmp_path / "flat" / "c.npz.series").write_text(
        json.dumps({"files": [{"name": f"b{number}.npz", "time": number / 4} for number in (1, 2)]})
    )
    (found,) = find_samples(tmp_path / "cases", in_time=True).values()
    assert [(one.series, one.number, one.path.name) for one in found[:5:2]] == [
        ("case_0", 0, "step_0.npz"), ("case_0", 2, "step_2.npz"), ("case_1", 0, "step_0.npz"),
    ]  # fmt: skip
    (flat,) = find_samples(tmp_path / "flat", in_time=True).values()
    assert [(one.series, one.path.stem, one.time) for one in flat] == [
        ("c", "b1", 0.25), ("c", "b2", 0.5),
        ("a", "a_0", None), ("a", "a_1", None), ("a", "a_2", None), ("a", "a_10", None),
    ]  # fmt: skip


def test_the_field_at_a_given_time_is_trained_by_whole_cases(tmp_path):
    folder = write_series(tmp_path / "own")
    made = load(tmp_path, folder, inputs="rate", targets="heat", time="input", n_test=1)
    assert (made.kind, len(made.train), len(made.tests["test"])) == ("steady", 3 * STEPS, STEPS)
    assert dict(made.channels.inputs) == {"rate": 1, "time": 1}
    cases = {name: {one.rsplit("_", 1)[0] for one in made.sample_names[name]} for name in ("train", "test")}
    assert len(cases["train"]) == 3
    assert not cases["train"] & cases["test"]
    times = np.unique(made.x_normalizer.decode(made.train.x)[made.train.real(0)[None] & made.train.mask, 3].round(6))
    np.testing.assert_allclose(times, [0, 0.5, 1, 1.5], atol=1e-6)


def test_a_rollout_has_states_in_units_of_their_spread(tmp_path):
    folder = write_series(tmp_path / "own")
    made = roll(tmp_path, folder, prescribed="wall", buckets=1)
    assert (made.kind, made.train.y.shape[2:], made.space_dim) == ("mesh_series", (STEPS, 3), 2)
    assert dict(made.channels.inputs) == {"rate": 1, "wall": 1}
    np.testing.assert_allclose(made.times, [0, 0.5, 1, 1.5])
    case = int(made.sample_names["train"][1].removeprefix("case_"))
    real = made.train.real(1)
    heat = np.stack([step(case, number)["heat"] for number in range(STEPS)], axis=1)
    flow = np.stack([step(case, number)["flow"] for number in range(STEPS)], axis=1)
    np.testing.assert_allclose(made.in_units(made.train.y[1][real])[..., 0], heat, rtol=1e-5)
    np.testing.assert_allclose(made.in_units(made.train.y[1][real])[..., 1:], flow, rtol=1e-4, atol=1e-4)
    assert made.train.free[1][real].tolist() == [False, False, *[True] * (len(heat) - 2)]
    change = np.concatenate(
        [np.diff(made.train.y[row][made.train.free[row]], axis=1).reshape(-1, 3) for row in range(3)]
    )
    np.testing.assert_allclose(made.increment_normalizer.mean, change.mean(0), rtol=1e-4)
    np.testing.assert_allclose(made.increment_normalizer.std, change.std(0, ddof=1), rtol=1e-4)


def test_points_that_move_are_a_field_of_their_own(tmp_path):
    made = roll(tmp_path, write_series(tmp_path / "own", moving=True))
    assert dict(made.channels.targets) == {"heat": 1, "flow": 2, "displacement": 2}
    case = int(made.sample_names["train"][0].removeprefix("case_"))
    moved = step(case, 3, True)["points"] - step(case, 0)["points"]
    found = made.in_units(made.train.y[0][made.train.real(0)])[:, 3, 3:]
    np.testing.assert_allclose(found, moved, rtol=1e-4, atol=1e-5)


def test_series_that_are_none(tmp_path):
    folder = write_series(tmp_path / "own")
    for options, problem in (
        (
            {"time": "rolout"},
            "data.time is 'rolout' .did you mean 'rollout'.. but must be one of '', 'input', 'rollout'",
        ),
        ({"time": "input", "prescribed": "wall"}, "data.prescribed='wall' marks points of a rollout; set data.time"),
        ({"prescribed": "flow"}, "data.prescribed='flow' has 2 channels; name one of 1"),
    ):
        with pytest.raises(DataError, match=problem):
            roll(tmp_path, folder, **options)
    np.savez(folder / "case_1" / "step_1.npz", **step(2, 1))
    with pytest.raises(DataError, match=r"step_1.npz has 8 points .* data.time=input takes steps of any mesh"):
        roll(tmp_path, folder)
    np.savez(folder / "case_1" / "step_1.npz", **{**step(1, 1), "time": np.float64(0.7)})
    with pytest.raises(
        DataError, match=r"case_1 has the times 0, 0.7, 1, 1.5, and a rollout needs steps of one length"
    ):
        roll(tmp_path, folder)
    np.savez(folder / "case_1" / "step_1.npz", **{**step(1, 1), "time": np.float64(0.0)})
    with pytest.raises(DataError, match=r"the times of case_1 do not grow, 0, 0, 1, 1.5; order its steps by time"):
        roll(tmp_path, folder)
    np.savez(folder / "case_1" / "step_1.npz", **step(1, 1))
    (folder / "case_1" / "step_3.npz").unlink()
    made = roll(tmp_path, folder)
    assert made.train.y.shape[2] == 3
    assert "series of different lengths are used up to step 3" in made.source.detail["notes"][0]
