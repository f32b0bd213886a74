"""One optimizer step: how its loss is summed over batches, and the average of the weights."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data_pipeline.sequence.dataset import IGNORE_INDEX
from experiments.training.optimizers import build_packing
from experiments.training.state import create_state
from experiments.training.step import make_step
from experiments.training.task import Task
from experiments.training.tasks import build_task
from tests.experiments.training import fields
from tests.experiments.training.toy import token_task


def _series_task() -> tuple[Task, dict[str, jax.Array]]:
    """Velocities on 8 meshes, with 1 to 4 free nodes."""
    dataset = fields.mesh_series(samples=8)
    dataset.train.free[:] = np.arange(6) >= np.array([[5], [2], [4], [3], [2], [5], [5], [3]])

    def apply(params, x, mask):
        return jnp.broadcast_to(params["a.bias"], (*x.shape[:2], 2))

    task = build_task(dataset, apply, 1, (), {})
    return replace(task, train={**task.train, "window": np.arange(8) % 4}), {"a.bias": jnp.array([0.25, -1.0])}


def _cloud_task() -> tuple[Task, dict[str, jax.Array]]:
    """Padded clouds, one of which has a target that is 0 everywhere."""
    dataset = fields.clouds(counts=(3, 9, 4, 8, 2, 9, 1, 10))
    dataset.train.y[3] = 0
    return build_task(dataset, lambda params, x, mask: x @ params["a.kernel"], 1, (), {}), {
        "a.kernel": jnp.array([[0.5], [2.0]])
    }


def _one_step(task, params, batches, size):
    """Return the loss of a step on the 8 samples in batches, and the gradient that it followed."""
    packing, optimizer = build_packing("adamw", params), optax.sgd(1.0)
    arrays = {name: jnp.asarray(v).reshape(batches, size, *v.shape[1:]) for name, v in task.train.items()}
    state, metrics = jax.jit(make_step(task, optimizer, packing, 0.0))(
        create_state(params, packing, optimizer, 0, ema=False), arrays
    )
    after = packing.unpack(state.params)
    return metrics["loss"], np.concatenate([np.ravel(params[name] - after[name]) for name in params])


@pytest.mark.parametrize("make", [token_task, _series_task, _cloud_task])
def test_a_step_is_the_same_however_its_samples_are_cut_into_batches(make):
    task, params = make()
    whole, gradient = _one_step(task, params, 1, 8)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 1e-2
    for batches, size in ((8, 1), (2, 4)):
        loss, other = _one_step(task, params, batches, size)
        np.testing.assert_allclose(loss, whole, rtol=1e-6)
        np.testing.assert_allclose(other, gradient, rtol=1e-5, atol=1e-6)


def test_the_loss_of_a_step_is_the_sum_over_labels_divided_by_their_number():
    task, params = token_task()
    batch = {name: jnp.asarray(value) for name, value in task.train.items()}
    logits = np.asarray(task.predict(params, batch, None), np.float64)
    terms = (
        np.log(np.exp(logits).sum(-1))
        - np.take_along_axis(logits, np.maximum(batch["labels"], 0)[..., None], 2)[..., 0]
    )
    valid = np.asarray(batch["labels"]) != IGNORE_INDEX
    np.testing.assert_allclose(_one_step(task, params, 4, 2)[0], terms[valid].sum() / valid.sum(), rtol=1e-6)


def test_a_sample_without_a_relative_error_is_left_out_of_the_loss():
    task, params = _cloud_task()
    x, y = task.train["x"], task.train["y"]
    errors = [np.linalg.norm(x[i] @ [[0.5], [2.0]] - y[i]) / np.linalg.norm(y[i]) for i in range(8) if i != 3]
    np.testing.assert_allclose(_one_step(task, params, 1, 8)[0], np.mean(errors), rtol=1e-5)
