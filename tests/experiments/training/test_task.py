"""What a model's call is given besides the points: a key in training alone, features and times where data have them."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.errors import UserError
from experiments.training.evaluate import make_evaluator
from experiments.training.mesh import make_mesh
from experiments.training.task import Loss
from experiments.training.tasks import regression_task
from experiments.training.tasks.inputs import pad_points
from tests.experiments.test_models import dataset
from tests.experiments.training.runs import Runs
from tests.experiments.training.toy import toy_config, toy_params, toy_task

FX = np.random.default_rng(1).random((5, 12, 2)).astype(np.float32)
TIME = np.arange(5, dtype=np.float32)


def apply(params, x, mask, *, key=None, fx=None, time=None):
    """A model whose output shows what it was given."""
    y = params["w"] * x[..., :1]
    y = y if key is None else y + jax.random.normal(key, y.shape)
    y = y if fx is None else y + jnp.sum(fx, -1, keepdims=True)
    return y if time is None else y + time[:, None, None]


def test_the_key_is_passed_in_training_and_none_in_evaluation():
    task = regression_task(dataset(), apply, call_inputs=("key",))
    batch = {name: jnp.asarray(value) for name, value in task.train.items()}
    params = {"w": jnp.float32(2.0)}
    quiet = task.predict(params, batch, None)
    np.testing.assert_allclose(quiet, 2 * batch["x"][..., :1], rtol=1e-6)
    noisy = [task.predict(params, batch, jax.random.key(seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(noisy[0], noisy[1])
    assert (np.asarray(noisy[0]) != np.asarray(noisy[2])).all()
    plain = regression_task(dataset(), apply)
    np.testing.assert_array_equal(plain.predict(params, batch, jax.random.key(0)), quiet)


@pytest.mark.parametrize("points_multiple", [1, 5])
def test_features_and_times_of_the_data_are_passed(points_multiple):
    task = regression_task(dataset(fx=FX, time=TIME), apply, points_multiple, call_inputs=("fx", "time"))
    params = {"w": jnp.float32(0.0)}
    mesh = make_mesh(1, 1)
    batch = mesh.place_dataset(task.train)
    prediction = task.predict(params, batch, None)[:, :12, 0]
    np.testing.assert_allclose(prediction, FX.sum(-1) + TIME[:, None], rtol=1e-6)
    error = make_evaluator(task, 2, mesh)(params, batch)["rel_l2"]
    # The target, 1 everywhere, is an offset of the data: models predict what differs from it.
    expected = np.linalg.norm(FX.sum(-1) + TIME[:, None], axis=1) / np.sqrt(12)
    np.testing.assert_allclose(error, expected, rtol=1e-5)


def test_padding_leaves_times_alone():
    padded = pad_points({"x": np.ones((2, 6, 3)), "time": np.arange(2.0), "fx": np.ones((2, 6, 1))}, 4)
    assert padded["fx"].shape == (2, 8, 1)
    np.testing.assert_array_equal(padded["time"], [0, 1])


def test_data_with_an_input_that_the_model_does_not_take():
    with pytest.raises(UserError, match="data set toy has the input 'time', which this model type does not take"):
        regression_task(dataset(time=TIME), apply, call_inputs=("fx", "key"))


def _noisy_task():
    """The toy problem with noise on the inputs, as dropout would draw it."""
    task = toy_task()

    def predict(params, batch, key):
        noise = 0.0 if key is None else jax.random.normal(key, batch["x"].shape)
        return (batch["x"] + noise) @ params["a.kernel"] + params["a.bias"]

    return dataclasses.replace(task, predict=predict, loss=Loss.of_prediction(predict, task.metrics["error"]))


@pytest.mark.parametrize("accumulation", [1, 2])
def test_noise_is_the_same_after_resuming(tmp_path, accumulation):
    """All epochs at once, and the last of them again from the checkpoint before it."""
    config = toy_config(epochs=6, accumulation=accumulation)
    noisy, plain = (Runs(config, task, lambda seed: toy_params()) for task in (_noisy_task(), toy_task()))
    straight = noisy.train(tmp_path / "straight")
    noisy.train(tmp_path / "parts")
    steps = sorted(int(path.name) for path in (tmp_path / "parts" / "checkpoints").iterdir())
    assert len(steps) > 1
    shutil.rmtree(tmp_path / "parts" / "checkpoints" / str(steps[-1]))
    resumed = noisy.train(tmp_path / "parts")
    quiet = plain.train(tmp_path / "quiet")
    for group, value in straight.params.items():
        np.testing.assert_array_equal(value, resumed.params[group])
        assert (np.asarray(value) != np.asarray(quiet.params[group])).any()
