"""The tasks on points: what the model is given, losses by hand, rollouts of models whose answer is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline.registry import DATASETS
from experiments.errors import UserError
from experiments.training.evaluate import make_evaluator
from experiments.training.mesh import make_mesh
from experiments.training.tasks import build_task
from experiments.training.tasks.autoregressive import autoregressive_task
from experiments.training.tasks.baselines import baseline_error, training_mean
from experiments.training.tasks.inputs import ModelCall, input_channels
from experiments.training.tasks.mesh_series import mesh_series_task
from experiments.training.tasks.regression import regression_task, some_points
from experiments.training.tasks.time_conditioned import time_conditioned_task
from runtime.options import defaults_of
from tests.experiments.training import fields
from tests.experiments.training.toy import losses_of

KEY = jax.random.key(0)


def batch_of(task, **more):
    return {name: jnp.asarray(value) for name, value in {**task.train, **more}.items()}


def relative(prediction, target):
    """Relative L2 per sample, over everything else."""
    axes = tuple(range(1, target.ndim))
    return np.sqrt(np.square(prediction - target).sum(axes) / np.square(target).sum(axes))


def test_inputs_that_a_model_does_not_take_become_channels():
    def show(params, x, mask, **extra):
        return jnp.concatenate([x, *(jnp.atleast_3d(value) for value in extra.values())], axis=-1)

    x, features, time = jnp.ones((2, 3, 2)), jnp.full((2, 3, 4), 5.0), jnp.array([7.0, 8.0])
    plain = ModelCall(show)({}, x, None, features=features, time=time, key=KEY)
    assert plain.shape == (2, 3, 7)
    np.testing.assert_array_equal(plain[:, 0, 6], time)
    np.testing.assert_array_equal(plain[:, :, 2:6], features)

    def named(params, x, mask, *, fx, time, key):
        assert x.shape[-1] == 2
        assert key is KEY
        np.testing.assert_array_equal(fx, features)
        np.testing.assert_array_equal(time, [7.0, 8.0])
        return x

    ModelCall(named, ("fx", "time", "key"))({}, x, None, features=features, time=time, key=KEY)
    dataset = fields.time_conditioned()
    channels = [input_channels(dataset, takes) for takes in ((), ("fx",), ("time",), ("fx", "time"))]
    assert channels == [2 + 1 + 1, 2 + 1, 2 + 1, 2]
    assert input_channels(fields.autoregressive(history=3), ()) == 5
    assert input_channels(fields.mesh_series(), ()) == 5


def last_frame(params, x, mask):
    """A model that repeats the newest frame of its window."""
    return x[..., -1:]


def test_autoregressive_rollout_of_a_copying_model():
    dataset = fields.autoregressive()
    task = autoregressive_task(dataset, last_frame)
    known, truth = dataset.train.fx[:, :, -1], dataset.train.y[..., 0]
    prediction = task.predict({}, batch_of(task), None)
    np.testing.assert_array_equal(prediction[..., 0], np.repeat(known[:, :, None], 4, axis=2))
    errors = make_evaluator(task, 3, make_mesh(1, 1))({}, batch_of(task))
    want = relative(np.repeat(known[:, :, None], 4, 2), truth)
    np.testing.assert_allclose(errors["rel_l2"], want, rtol=1e-5)
    by_frame = task.frame_metrics["rel_l2"](prediction, batch_of(task))
    np.testing.assert_allclose(by_frame[:, 2], relative(known, truth[..., 2]), rtol=1e-5)
    np.testing.assert_allclose(baseline_error(dataset, dataset.train), want.mean(), rtol=1e-5)


@pytest.mark.parametrize("feed", ["truth", "pushforward", "prediction"])
def test_what_enters_the_window_in_training(feed):
    dataset = fields.autoregressive()
    task = autoregressive_task(dataset, last_frame, feed=feed)
    known, truth = dataset.train.fx[:, :, -1], dataset.train.y[..., 0]
    shown = [known, *(truth[..., t] if feed == "truth" else known for t in range(3))]
    want = sum(relative(frame, truth[..., t]) for t, frame in enumerate(shown))
    np.testing.assert_allclose(losses_of(task, {}, batch_of(task), KEY), want, rtol=1e-5)


def test_gradients_flow_through_predictions_only_where_asked_for():
    def scaled(params, x, mask):
        return params * x[..., -1:]

    dataset = fields.autoregressive(steps=2)
    gradients = {}
    for feed in ("pushforward", "prediction"):
        task = autoregressive_task(dataset, scaled, feed=feed)
        batch = batch_of(task)
        gradients[feed] = jax.grad(lambda p: losses_of(task, p, batch, KEY).sum())(1.3)
    known, truth = (jnp.asarray(value) for value in (dataset.train.fx[:, :, -1], dataset.train.y[..., 0]))

    def by_hand(p, flow):
        first = p * known
        second = p * (first if flow else jax.lax.stop_gradient(first))
        pairs = ((first, truth[..., 0]), (second, truth[..., 1]))
        return sum(jnp.sqrt(jnp.sum((a - b) ** 2, 1) / jnp.sum(b**2, 1)).sum() for a, b in pairs)

    np.testing.assert_allclose(gradients["pushforward"], jax.grad(by_hand)(1.3, False), rtol=1e-4)
    np.testing.assert_allclose(gradients["prediction"], jax.grad(by_hand)(1.3, True), rtol=1e-4)
    assert abs(gradients["pushforward"] - gradients["prediction"]) > 1e-3


def test_frames_of_several_channels_in_normalised_units():
    from data_pipeline.normalizer import Normalizer

    normalizer = Normalizer(np.float32([1.0, 2.0]), np.float32([3.0, 4.0]))
    dataset = fields.autoregressive(channels=2, y_normalizer=normalizer)

    def newest(params, x, mask):
        np.testing.assert_allclose(x[..., -2:], normalizer.encode(dataset.train.fx[..., -2:]), rtol=1e-5)
        return x[..., -2:]

    one = dataclasses.replace(dataset, train=dataclasses.replace(dataset.train, y=dataset.train.y[:, :, :1]))
    task = autoregressive_task(one, newest)
    with jax.disable_jit():
        prediction = task.predict({}, batch_of(task), None)
    np.testing.assert_allclose(prediction[:, :, 0], dataset.train.fx[..., -2:], rtol=1e-5)


def test_noise_is_added_in_training_alone():
    quiet, noisy = (autoregressive_task(fields.autoregressive(), last_frame, noise=noise) for noise in (0.0, 0.5))
    batch = batch_of(quiet)
    np.testing.assert_array_equal(quiet.predict({}, batch, None), noisy.predict({}, batch, None))
    losses = [losses_of(task, {}, batch, key) for task, key in ((quiet, KEY), (noisy, KEY), (noisy, jax.random.key(1)))]
    assert not np.allclose(losses[0], losses[1])
    assert not np.allclose(losses[1], losses[2])


def time_model(params, x, mask, *, time):
    return jnp.broadcast_to(time[:, None, None], (*x.shape[:2], 2)) + params


def test_times_are_visited_once_each_in_an_order_of_their_own():
    dataset = fields.time_conditioned(samples=6)
    task = time_conditioned_task(dataset, time_model, call_inputs=("time",))
    loss, batch = task.loss, batch_of(task)
    assert (loss.repeats, loss.schedule_by_batch) == (4, True)
    visits, seen = loss.empty(batch), []
    for number in range(4):
        # The step's key changes from step to step; the order is that of the first.
        key = jax.random.key(number)
        order_before = visits[0]
        errors, _, visits = loss.of(jnp.float32(0.5), batch, key, visits, jnp.bool_(number == 0))
        if number:
            np.testing.assert_array_equal(order_before, visits[0])
        index = np.asarray(visits[0][:, number])
        seen.append(index)
        truth = np.stack([dataset.train.y[case, :, t] for case, t in enumerate(index)])
        prediction = np.broadcast_to(dataset.times[index][:, None, None] + 0.5, truth.shape)
        np.testing.assert_allclose(errors, relative(prediction, truth), rtol=1e-5)
    np.testing.assert_array_equal(np.sort(seen, axis=0), np.broadcast_to(np.arange(4)[:, None], (4, 6)))
    assert len(np.unique(np.array(seen).T, axis=0)) > 1  # samples differ in their order


def test_all_times_are_compared_at_once():
    dataset = fields.time_conditioned()
    task = time_conditioned_task(dataset, time_model, call_inputs=("time",))
    prediction = task.predict(jnp.float32(0.0), batch_of(task), None)
    want = np.broadcast_to(dataset.times[:, None], dataset.train.y.shape)
    np.testing.assert_allclose(prediction, want, rtol=1e-6)
    np.testing.assert_allclose(
        task.metrics["rel_l2"](prediction, batch_of(task)), relative(want, dataset.train.y), rtol=1e-5
    )


def test_one_step_on_some_times():
    """With all times the mean error does not depend on their order."""
    dataset = fields.time_conditioned()
    task = time_conditioned_task(dataset, time_model, call_inputs=("time",), times_per_step=4)
    assert task.loss.empty is None
    frames = [np.broadcast_to(time, dataset.train.y[:, :, 0].shape) for time in dataset.times]
    want = np.mean([relative(frame, dataset.train.y[:, :, t]) for t, frame in enumerate(frames)], axis=0)
    np.testing.assert_allclose(losses_of(task, jnp.float32(0.0), batch_of(task), KEY), want, rtol=1e-5)
    few = time_conditioned_task(dataset, time_model, call_inputs=("time",), times_per_step=2)
    assert losses_of(few, jnp.float32(0.0), batch_of(few), KEY).shape == (4,)


def still(params, x, mask):
    """A model whose increment is a constant of the parameters, in normalised units."""
    return jnp.broadcast_to(params, (*x.shape[:2], 2))


def test_mesh_loss_by_hand():
    dataset = fields.mesh_series()
    task = mesh_series_task(dataset, still)
    assert (task.windows, task.num_train) == (4, 12)
    window = np.array([0, 3, 1])
    y, free = dataset.train.y, dataset.train.free
    now, after = (np.stack([y[case, :, t + later] for case, t in enumerate(window)]) for later in (0, 1))
    target = dataset.increment_normalizer.encode(after - now)
    want = [np.square(0.25 - target[case][free[case]]).sum() for case in range(3)]
    batch = batch_of(task, window=window)
    np.testing.assert_allclose(losses_of(task, jnp.full(2, 0.25), batch, KEY), want, rtol=1e-5)
    np.testing.assert_array_equal(task.loss.counts(batch), [8, 8, 8])  # four free nodes, two channels


def test_mesh_rollout_keeps_prescribed_nodes():
    dataset = fields.mesh_series()
    task = mesh_series_task(dataset, still)
    prediction = np.asarray(task.predict(jnp.array([1.0, -1.0]), batch_of(task), None))
    y = dataset.train.y
    assert prediction.shape == (3, 6, 4, 2)
    np.testing.assert_array_equal(prediction[:, :2], y[:, :2, 1:])
    step = dataset.increment_normalizer.decode(np.float32([1.0, -1.0]))
    want = y[:, 2:, :1] + np.arange(1, 5)[:, None] * step
    np.testing.assert_allclose(prediction[:, 2:], want, rtol=1e-4, atol=1e-5)
    errors = task.metrics["rel_l2"](prediction, batch_of(task))
    np.testing.assert_allclose(errors, relative(want, y[:, 2:, 1:]), rtol=1e-4)


def test_a_diverged_rollout_has_a_finite_error():
    task = mesh_series_task(fields.mesh_series(), still)
    prediction = task.predict(jnp.full(2, 1e30), batch_of(task), None)
    assert np.isfinite(task.metrics["rel_l2"](prediction, batch_of(task))).all()
    assert (task.metrics["rel_l2"](prediction, batch_of(task)) > 100).all()


def test_training_noise_leads_back_to_the_true_frame():
    """A model that undoes the noise it sees has no loss: the target starts from what the model was shown."""
    dataset = fields.mesh_series()
    velocities, increments = dataset.y_normalizer, dataset.increment_normalizer
    after = jnp.asarray(dataset.train.y[:, :, 1])

    def exact(params, x, mask):
        seen = velocities.decode(x[..., -2:])
        return increments.encode(after - seen)

    batch = batch_of(mesh_series_task(dataset, exact), window=np.zeros(3, int))
    noisy = mesh_series_task(dataset, exact, noise=0.7)
    np.testing.assert_allclose(losses_of(noisy, {}, batch, KEY), 0, atol=1e-8)

    def seen(params, x, mask):
        return x[..., -2:]

    def shown(noise):
        return losses_of(mesh_series_task(dataset, seen, noise=noise), {}, batch, KEY)

    assert not np.allclose(shown(0.0), shown(0.7))


def test_mesh_losses_and_metrics_do_not_see_padding():
    plain, padded = (mesh_series_task(fields.mesh_series(**more), still) for more in ({}, {"padding": 3, "fill": 9.0}))
    params, window = jnp.full(2, 0.25), np.array([0, 3, 1])
    for kind in ("loss", "rel_l2", "mse", "r2"):
        found = []
        for task in (plain, padded):
            batch = batch_of(task, window=window)
            if kind == "loss":
                found.append(losses_of(task, params, batch, KEY))
            else:
                found.append(task.metrics[kind](task.predict(params, batch, None), batch))
        np.testing.assert_allclose(*found, rtol=1e-5)
    dataset = fields.mesh_series(padding=3, fill=9.0)
    np.testing.assert_allclose(
        baseline_error(dataset, dataset.train), baseline_error(fields.mesh_series(), fields.mesh_series().train)
    )


def test_training_on_some_points_of_each_batch():
    dataset = fields.make("toy", *[fields.clouds().train] * 2, "steady")
    dataset = dataclasses.replace(dataset, train=dataclasses.replace(dataset.train, mask=None))

    def shapes(params, x, mask):
        assert x.shape[1] in (4, 10)
        return x[..., :1]

    task = regression_task(dataset, shapes, points_per_step=4)
    batch = batch_of(task)
    assert losses_of(task, {}, batch, KEY).shape == (6,)
    assert task.predict({}, batch, None).shape == (6, 10, 1)
    assert (task.points_per_sample, regression_task(dataset, shapes).points_per_sample) == (4, 10)
    everything = regression_task(dataset, shapes, points_per_step=10)
    want = losses_of(regression_task(dataset, shapes), {}, batch)
    np.testing.assert_allclose(losses_of(everything, {}, batch, KEY), want, rtol=1e-5)


def test_points_of_a_step_are_distinct_and_drawn_anew_for_each_sample_and_key():
    points = np.asarray(some_points(KEY, samples=3, points=40, count=9))
    assert points.shape == (3, 9)
    assert all(len(set(row)) == 9 and row.min() >= 0 and row.max() < 40 for row in points)
    assert len({tuple(sorted(row)) for row in points}) == 3
    np.testing.assert_array_equal(points, some_points(KEY, samples=3, points=40, count=9))
    other = np.asarray(some_points(jax.random.fold_in(KEY, 1), samples=3, points=40, count=9))
    assert {tuple(sorted(row)) for row in points}.isdisjoint(tuple(sorted(row)) for row in other)


@pytest.mark.parametrize(("count", "masked"), [(2, False), (4, True), (7, True)])
def test_points_of_a_step_are_real_ones_of_clouds_of_any_size(count, masked):
    counts, seen = (3, 9, 4, 8, 2, 9), []

    def apply(params, x, mask):
        seen.append((x, mask))
        return x.sum(-1, keepdims=True)

    task = regression_task(fields.clouds(counts), apply, points_per_step=count)
    batch = {name: jnp.asarray(value) for name, value in task.train.items()}
    np.testing.assert_allclose(losses_of(task, {}, batch, KEY), 0, atol=1e-6)
    ((x, mask),) = seen
    assert (mask is not None) == masked
    x, mask = np.asarray(x), mask if mask is None else np.asarray(mask)
    for case, size in enumerate(counts):
        part = np.asarray(x[case] if mask is None else x[case][mask[case]])
        assert len(np.unique(part, axis=0)) == len(part) == min(count, size)
        whole = {tuple(point) for point in np.asarray(batch["x"][case, :size])}
        assert {tuple(point) for point in part} <= whole
        assert mask is None or mask[case, : len(part)].all()
    cut = {name: value[:, :4] for name, value in batch.items()}  # a batch of a bucket of smaller clouds
    assert losses_of(task, {}, cut, KEY).shape == (6,)
    assert seen[-1][0].shape[1] == min(count, 4)


def test_evaluation_in_pieces_is_asked_of_the_model_outside_of_training():
    asked = []

    def apply(params, x, mask, points_per_piece=None):
        asked.append(points_per_piece)
        return x[..., :1]

    task = regression_task(fields.clouds(), apply, 1, ("points_per_piece",), points_per_piece=4)
    task.predict({}, batch_of(task), None)
    task.predict({}, batch_of(task), KEY)
    assert asked == [4, None]


def test_statistics_of_baselines_ignore_padding():
    dataset = fields.clouds()
    real = dataset.train.y[dataset.train.mask]
    np.testing.assert_allclose(training_mean(dataset.train), real.mean(0), rtol=1e-6)
    want = []
    for case in range(len(dataset.train)):
        y = dataset.train.y[case][dataset.train.mask[case]]
        want.append(np.linalg.norm(y - real.mean()) / np.linalg.norm(y))
    np.testing.assert_allclose(baseline_error(dataset, dataset.train), np.mean(want), rtol=1e-5)


@pytest.mark.parametrize(
    ("dataset", "options", "words"),
    [
        (fields.autoregressive(), {"feed": "teacher"}, "task.feed='teacher' is not known; choose one of truth"),
        (fields.autoregressive(), {"noise": -1.0}, "task.noise=-1.0 must not be negative"),
        (fields.mesh_series(), {"noise": -1.0}, "task.noise=-1.0 must not be negative"),
        (fields.time_conditioned(), {"times_per_step": 5}, "has 4 times; choose from 1 to 4"),
        (fields.clouds(), {"points_per_step": 20}, "have up to 10 points; choose from 1 to 10, or 0 for all"),
        (fields.clouds(), {"gradient_weight": 0.1}, "needs a grid of two axes, which data set toy has not"),
        (fields.clouds(), {"gradient_weight": -0.1}, "must not be negative"),
        (fields.clouds(), {"points_per_piece": -1}, "task.points_per_piece=-1 must not be negative"),
        (fields.clouds(), {"points_per_piece": 5}, "this model type predicts all points at once"),
        (fields.clouds(), {"diagnostics": 5}, "task.diagnostics=5, but the mixers of this model type say nothing"),
        (fields.mesh_series(), {"diagnostics": 5}, "task.diagnostics=5 does nothing for this data"),
    ],
)
def test_bad_options(dataset, options, words):
    with pytest.raises(UserError, match=words):
        build_task(dataset, still, 1, (), options)


def test_options_belong_to_data_sets():
    steady = {"points_per_piece": 0, "diagnostics": 0}
    found = {name: defaults_of(record.all_task_options()) for name, record in DATASETS.items()}
    assert found["darcy"] == {"gradient_weight": 0.1, **steady}
    assert found["drivaerml_1m"] == found["elasticity"] == steady
    assert found["plasticity"] == {"times_per_step": 0}
    data = {name: defaults_of(record.all_data_options()) for name, record in DATASETS.items()}
    assert data["darcy"]["points_per_step"] == 0
    assert "points_per_step" not in data["plasticity"]
