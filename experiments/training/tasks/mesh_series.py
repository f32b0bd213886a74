"""The next velocity on the nodes of a mesh, in the manner of MeshGraphNets (arXiv 2010.03409)."""

from collections.abc import Callable, Collection

import jax
import jax.numpy as jnp
from jax import Array

from data_pipeline.dataset import PDEDataset
from experiments.errors import UserError
from experiments.training.packing import Params
from experiments.training.task import Batch, Loss, Task
from experiments.training.tasks.frames import frame_at, frame_metrics, metrics
from experiments.training.tasks.inputs import ModelCall, task_arrays

# A rollout that has left the data by so many standard deviations has diverged; held there, its error stays a number.
_FARTHEST = 1e3


def mesh_series_task(
    dataset: PDEDataset,
    apply: Callable[..., Array],
    points_multiple: int = 1,
    call_inputs: Collection[str] = (),
    *,
    noise: float = 0.0,
) -> Task:
    """Return the task of predicting the increments of the velocity between the frames of `y` [S, N, T, C].

    A training sample is a pair of successive frames. Gaussian noise of standard deviation `noise`, in data units, is
    added to the velocity of free nodes, and the target leads back to the true next frame. The loss is the mean squared
    error over the entries of free nodes of all samples of a step. Evaluation starts from the first frame, feeds
    predictions, and resets nodes that are not free to their recorded values after every step; metrics are over free
    nodes. Raises UserError.
    """
    if not noise >= 0:
        raise UserError(f"task.noise={noise} must not be negative; 0 adds none")
    velocities, increments = dataset.y_normalizer, dataset.increment_normalizer
    call = ModelCall(apply, call_inputs, dataset.space_dim)

    def step(params: Params, batch: Batch, velocity: Array, key: Array | None) -> Array:
        """Return the normalised increment [B, N, C] after a frame in data units."""
        given = {"features": velocities.encode(velocity), "edges": batch.get("edges"), "key": key}
        return call(params, batch["x"], batch.get("mask"), **given)

    def loss_of_step(params: Params, batch: Batch, key: Array) -> Array:
        free = batch["free"][..., None]
        now, after = (frame_at(batch["y"], batch["window"] + later) for later in (0, 1))
        if noise:
            now += jnp.where(free, noise * jax.random.normal(jax.random.fold_in(key, 1), now.shape), 0.0)
        difference = step(params, batch, now, key) - increments.encode(after - now)
        return jnp.sum(jnp.square(jnp.where(free, difference, 0.0)), axis=(1, 2))

    def predict(params: Params, batch: Batch, key: Array | None) -> Array:
        free = batch["free"][..., None]
        low, high = (velocities.decode(sign * _FARTHEST) for sign in (-1.0, 1.0))

        def body(velocity: Array, recorded: Array) -> tuple[Array, Array]:
            following = velocity + increments.decode(step(params, batch, velocity, key))
            following = jnp.where(free, jnp.clip(following, low, high), recorded)
            return following, following

        frames = jnp.moveaxis(batch["y"], 2, 0)
        _, predicted = jax.lax.scan(body, frames[0], frames[1:])
        return jnp.moveaxis(predicted, 0, 2)

    found = metrics(dataset, "free", first=1)
    return Task(
        **task_arrays(dataset, points_multiple),
        predict=predict,
        loss=Loss.per_sample(loss_of_step, lambda batch: jnp.sum(batch["free"], axis=1) * batch["y"].shape[-1]),
        metrics=found,
        headline="rel_l2",
        frame_metrics=frame_metrics(dataset, "free", first=1),
        windows=dataset.train.y.shape[2] - 1,
    )
