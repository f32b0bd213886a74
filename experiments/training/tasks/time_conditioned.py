"""The field at a given time, as in the published runs on plasticity."""

from collections.abc import Callable, Collection
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Int

from data_pipeline.dataset import PDEDataset
from experiments.errors import UserError
from experiments.training import losses
from experiments.training.packing import Params
from experiments.training.task import Batch, Loss, Losses, Task
from experiments.training.tasks.errors import relative_counts
from experiments.training.tasks.frames import frame_metrics, metrics
from experiments.training.tasks.inputs import ModelCall, task_arrays

Visits = tuple[Int[Array, "B T"], Int[Array, ""]]  # the order of the times of each sample, and how many are done


def time_conditioned_task(
    dataset: PDEDataset,
    apply: Callable[..., Array],
    points_multiple: int = 1,
    call_inputs: Collection[str] = (),
    *,
    times_per_step: int = 0,
) -> Task:
    """Return the task of predicting the frames `y` [S, N, T, C] from the points, features and a time each.

    Training visits all T times of a batch in an order of its own for each sample, with one optimizer step per time on
    the relative error of that frame; the learning rate advances once per batch. With `times_per_step` there is one step
    per batch instead, on the mean error of so many different random times per sample. Evaluation predicts all times and
    compares all frames at once. Raises UserError for bad options.
    """
    times, normalizer = jnp.asarray(dataset.times), dataset.y_normalizer
    relative = partial(losses.relative_l2, offset=dataset.metric_offset)
    count, call = len(times), ModelCall(apply, call_inputs)
    if not 0 <= times_per_step <= count:
        raise UserError(
            f"task.times_per_step={times_per_step}, but {dataset.name} has {count} times; choose from 1 to {count}, or "
            "0 for one step on each"
        )

    def frame(params: Params, batch: Batch, time: Array, key: Array | None) -> Array:
        given = {"features": batch.get("fx"), "time": time, "key": key}
        return normalizer.decode(call(params, batch["x"], batch.get("mask"), **given))

    def predict(params: Params, batch: Batch, key: Array | None) -> Array:
        samples = batch["x"].shape[0]
        frames = jax.lax.map(lambda time: frame(params, batch, jnp.full(samples, time), key), times)
        return jnp.moveaxis(frames, 0, 2)

    def frame_error(params: Params, batch: Batch, index: Array, key: Array) -> Array:
        """Return the relative error [B] at one time per sample."""
        truth = jnp.take_along_axis(batch["y"], index[:, None, None, None], axis=2)[:, :, 0]
        return losses.or_zero(relative(frame(params, batch, times[index], key), truth, batch.get("mask")))

    def some_times(params: Params, batch: Batch, key: Array) -> Array:
        orders = _orders(key, batch["x"].shape[0], count)[:, :times_per_step]
        keys = jax.random.split(jax.random.fold_in(key, 1), times_per_step)
        errors = jax.lax.map(lambda pair: frame_error(params, batch, *pair), (orders.T, keys))
        return jnp.mean(errors, axis=0)

    def empty(batch: Batch) -> Visits:
        return jnp.zeros((batch["x"].shape[0], count), jnp.int32), jnp.int32(0)

    def next_time(params: Params, batch: Batch, key: Array, visits: Visits, first: Array) -> Losses:
        order = jnp.where(first, _orders(key, batch["x"].shape[0], count), visits[0])
        done = jnp.where(first, 0, visits[1])
        error = frame_error(params, batch, order[:, done], jax.random.fold_in(key, 1))
        return Losses(error, carry=(order, done + 1))

    found = metrics(dataset)
    counts = relative_counts(dataset)
    loss = Loss(next_time, counts, empty, count, schedule_by_batch=True)
    return Task(
        **task_arrays(dataset, points_multiple),
        predict=predict,
        loss=Loss.per_sample(some_times, counts) if times_per_step else loss,
        metrics=found,
        headline="rel_l2",
        frame_metrics=frame_metrics(dataset),
    )


def _orders(key: Array, samples: int, count: int) -> Int[Array, "B T"]:
    """Return a random order of the times for each sample."""
    return jax.vmap(lambda one: jax.random.permutation(one, count))(jax.random.split(key, samples)).astype(jnp.int32)
