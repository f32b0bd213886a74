"""Runs on printed parts layer by layer, as a user makes them: the loss, the march, the report."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline.additive.case import write_case
from data_pipeline.errors import DataError
from data_pipeline.pde import am_series
from experiments.errors import UserError
from experiments.training.tasks.baselines import baseline_errors
from experiments.training.tasks.layer_series import layer_series_task
from tests.experiments.additive import parts
from tests.experiments.training.toy import losses_of
from tests.numerics import assert_close


@pytest.fixture(scope="module")
def dataset(series_data):
    return am_series.load(series_data, 4, 2)


def true_increments(dataset):
    """Return a model that looks up the true increment of the part and the step whose state it is given."""
    table = jnp.asarray(dataset.train.y)
    states, after = table[:, :, :-1], table[:, :, 1:]

    def apply(params, x, mask):
        distances = jnp.abs(states[None] - x[:, None, :, None, 3:]).sum((2, 4))  # [B, S, T − 1]
        part, step = jnp.divmod(distances.reshape(len(x), -1).argmin(axis=1), distances.shape[2])
        return after[part, :, step] - states[part, :, step]

    return apply


def batch_of(task, split="train"):
    return {name: jnp.asarray(value) for name, value in (task.train if split == "train" else task.tests[split]).items()}


def test_splits_keep_parts_whole_and_are_recorded(series_data, dataset):
    names = dataset.source.detail["samples"]
    assert len(names["train"]) == 4
    assert not set(names["train"]) & set(names["test"])
    assert am_series.load(series_data, 4, 2, split_seed=3).source.detail["samples"] != names
    with pytest.raises(
        DataError, match=r"data.n_train=5 and data.n_test=2, but .* holds 6 parts of at least two steps"
    ):
        am_series.load(series_data, 5, 2)


def test_parts_of_one_step_are_left_out(tmp_path):
    folder = tmp_path / am_series.FOLDER / "series"
    parts.write_series(folder, 5)
    flat = parts.series_case(9, 1, 1)
    write_case(folder / "part_a.npz", flat)
    dataset = am_series.load(tmp_path, 4, 1)
    assert "part_a" not in [name for names in dataset.sample_names.values() for name in names]
    assert dataset.source.detail["notes"] == ["1 parts of one step are left out: they have no increment to learn"]
    with pytest.raises(DataError, match=r"part_a.npz has 1 step, which has no increment to learn"):
        am_series.read_part(folder / "part_a.npz", drop_plate=False)


def test_first_steps_and_nodes_below():
    case = parts.series_case(0, 2, 3)
    assert case.zmax[-1] == 3 * parts.SIZE
    layer = am_series.first_steps(case)
    np.testing.assert_array_equal(layer, np.maximum(0, np.round(case.pos[:, 2] / parts.SIZE) - 1))
    below = am_series.fill_nodes(case)
    np.testing.assert_allclose(
        case.pos[below] - case.pos, np.where(layer > 0, -parts.SIZE, 0)[:, None] * [0, 0, 1], atol=1e-5
    )


def test_the_plate_can_be_left_out():
    case = parts.series_case(0, 1, 4)
    lowered = replace(case, pos=case.pos - np.float32([0, 0, 2 * parts.SIZE]), zmax=case.zmax[1:] - 2 * parts.SIZE)
    kept = am_series.without_plate(lowered)
    assert (kept.pos[:, 2] >= 0).all()
    assert (len(kept.elems), kept.disp.shape[1]) == (2, len(kept.pos))
    np.testing.assert_allclose(kept.pos[kept.elems].max((0, 1)), lowered.pos.max(0))
    assert kept.edge_index.max() < len(kept.pos)


def test_exact_increments_march_without_error(dataset):
    """The metrics of a model that is right are 0 and 1, also from a later step, and NaN where nothing is predicted."""
    apply = true_increments(dataset)
    for first in (1, 2):
        task = layer_series_task(dataset, apply, first=first)
        batch = batch_of(task)
        prediction = task.predict({}, batch, None)
        found = {name: np.asarray(metric(prediction, batch)) for name, metric in task.metrics.items()}
        assert found["rel_l2"].max() < 1e-5
        assert found["rel_l2_last"].max() < 1e-5
        assert found["rms/vm"].max() < 0.05  # MPa
        np.testing.assert_allclose(found["r2"], 1, atol=1e-5)
        steps = {name: np.asarray(metric(prediction, batch)) for name, metric in task.frame_metrics.items()}
        predicted = np.arange(5) < np.asarray(batch["steps"])[:, None]
        predicted[:, :first] = False
        np.testing.assert_array_equal(np.isfinite(steps["r2"]), predicted)


def test_a_model_of_no_increments_has_the_errors_of_the_baselines(dataset):
    for first, fill in ((1, False), (2, True)):
        task = layer_series_task(dataset, lambda params, x, mask: x[..., 3:] * 0, first=first, fill_new_layer=fill)
        batch = batch_of(task)
        found = task.metrics["rel_l2"](task.predict({}, batch, None), batch)
        expected = baseline_errors(dataset, dataset.train, first)["nearest_fill" if fill else "copy_last"]
        np.testing.assert_allclose(np.asarray(found).mean(), expected, rtol=1e-5)


def test_teacher_forcing_predicts_from_true_states(dataset):
    forced = layer_series_task(dataset, lambda params, x, mask: 0 * x[..., 3:] + 0.1, teacher_forced=True)
    batch = batch_of(forced)
    prediction = np.asarray(forced.predict({}, batch, None))
    truth, layer = np.asarray(batch["y"]), np.asarray(batch["layer"])
    there = (layer[..., None] <= np.arange(1, truth.shape[2]))[..., None] & np.asarray(batch["mask"])[..., None, None]
    expected = truth[:, :, :-1] + np.where(there, 0.1, 0)
    np.testing.assert_allclose(prediction[:, :, 1:], expected, atol=1e-6)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_loss_counts_the_nodes_that_are_there_and_no_others(dataset, noise):
    """An error of 0.2 everywhere is a loss of 0.04, at every step of every part, whatever share of it is built."""
    apply = true_increments(dataset)
    wrong = layer_series_task(dataset, lambda params, x, mask: apply(params, x, mask) + 0.2)
    batch = {**batch_of(wrong)}
    for window in range(wrong.windows):
        value = losses_of(wrong, {}, {**batch, "window": jnp.full(4, window)}, jax.random.key(0))
        np.testing.assert_allclose(value, 0.04, rtol=1e-4)
    # With noise the target leads back to the true next state.
    noisy = layer_series_task(dataset, lambda params, x, mask: 0 * x[..., 3:], noise=noise)
    plain = layer_series_task(dataset, lambda params, x, mask: 0 * x[..., 3:])
    one = {**batch, "window": jnp.zeros(4, int)}
    difference = losses_of(noisy, {}, one, jax.random.key(0)) - losses_of(plain, {}, one, jax.random.key(0))
    assert_close("noise", jnp.mean(difference), noise**2, 0.25, absolute=1e-9)


def test_masked_nodes_reach_no_model(dataset):
    """What is not built yet is masked, so that it has no part in attention or messages."""
    seen = []
    task = layer_series_task(dataset, lambda params, x, mask: seen.append(mask) or x[..., 3:])
    batch = batch_of(task)
    losses_of(task, {}, {**batch, "window": jnp.array([0, 1, 0, 1])}, jax.random.key(0))
    expected = (np.asarray(batch["layer"]) <= np.array([[1], [2], [1], [2]])) & np.asarray(batch["mask"])
    np.testing.assert_array_equal(seen[0], expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": -1.0}, "task.noise=-1.0 must not be negative"),
        ({"first": 5}, "task.first=5, but am_series has states 0 to 4, .* choose from 1 to 4"),
    ],
)
def test_bad_options(dataset, options, message):
    with pytest.raises(UserError, match=message):
        layer_series_task(dataset, SimpleNamespace(), **options)
