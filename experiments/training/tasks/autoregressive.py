"""The next frame from the last ones, as in the published runs on Navier–Stokes."""

from collections.abc import Callable, Collection
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from data_pipeline.dataset import PDEDataset
from experiments.errors import UserError
from experiments.training import losses
from experiments.training.packing import Params
from experiments.training.task import Batch, Loss, Task
from experiments.training.tasks.errors import relative_counts
from experiments.training.tasks.frames import frame_metrics, metrics
from experiments.training.tasks.inputs import ModelCall, task_arrays

# Which frame enters the window after a step of training: the true one, the predicted one without or with gradients.
FEEDS = ("truth", "pushforward", "prediction")


def autoregressive_task(
    dataset: PDEDataset,
    apply: Callable[..., Array],
    points_multiple: int = 1,
    call_inputs: Collection[str] = (),
    *,
    feed: str = "truth",
    noise: float = 0.0,
) -> Task:
    """Return the task of predicting the frames `y` [S, N, T, C] one by one from a window of the frames before.

    Training sums the one-step relative errors of all T frames into one loss per sample, with the window fed by `feed`
    (truth: teacher forcing) and Gaussian noise of standard deviation `noise`, in normalised units, on what the model
    sees. Evaluation feeds predictions and compares all frames at once. Raises UserError for bad options.
    """
    if feed not in FEEDS:
        raise UserError(f"task.feed={feed!r} is not known; choose one of {', '.join(FEEDS)}")
    if not noise >= 0:
        raise UserError(f"task.noise={noise} must not be negative; 0 adds none")
    relative = partial(losses.relative_l2, offset=dataset.metric_offset)
    normalizer, call, channels = dataset.y_normalizer, ModelCall(apply, call_inputs), dataset.c_out

    def window_of(batch: Batch) -> Array:
        given = batch["fx"]
        return given.reshape(*given.shape[:2], -1, channels)

    def advance(params: Params, batch: Batch, window: Array, key: Array | None, spread: float = 0.0) -> Array:
        """Return the frame [B, N, C] after a window [B, N, frames, C], both in data units."""
        seen = normalizer.encode(window)
        if spread:
            seen += spread * jax.random.normal(jax.random.fold_in(key, 1), seen.shape)
        features = seen.reshape(*seen.shape[:2], -1)
        return normalizer.decode(call(params, batch["x"], batch.get("mask"), features=features, key=key))

    def predict(params: Params, batch: Batch, key: Array | None) -> Array:
        def body(window: Array, _: None) -> tuple[Array, Array]:
            frame = advance(params, batch, window, key)
            return _shifted(window, frame), frame

        _, frames = jax.lax.scan(body, window_of(batch), length=batch["y"].shape[2])
        return jnp.moveaxis(frames, 0, 2)

    def rolled_loss(params: Params, batch: Batch, key: Array) -> Array:
        def body(window: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
            truth, key = inputs
            frame = advance(params, batch, window, key, noise)
            fed = jax.lax.stop_gradient(frame) if feed == "pushforward" else frame
            return _shifted(window, fed), losses.or_zero(relative(frame, truth, batch.get("mask")))

        truths = jnp.moveaxis(batch["y"], 2, 0)
        _, errors = jax.lax.scan(body, window_of(batch), (truths, jax.random.split(key, len(truths))))
        return jnp.sum(errors, axis=0)

    def forced_loss(params: Params, batch: Batch, key: Array) -> Array:
        """Return the same sum with true windows, which are known at once: all frames are one batch of the model."""
        truths = batch["y"]
        frames = truths.shape[2]
        series = jnp.concatenate([window_of(batch), truths], axis=2)
        given = series.shape[2] - frames
        windows = jnp.stack([series[:, :, first : first + given] for first in range(frames)], axis=1)
        repeated = {name: jnp.repeat(batch[name], frames, axis=0) for name in ("x", "mask") if name in batch}
        frame = advance(params, repeated, windows.reshape(-1, *windows.shape[2:]), key, noise)
        wanted = jnp.moveaxis(truths, 2, 1).reshape(frame.shape)
        errors = relative(frame, wanted, repeated.get("mask"))
        return jnp.sum(losses.or_zero(errors).reshape(len(truths), frames), axis=1)

    found = metrics(dataset)
    return Task(
        **task_arrays(dataset, points_multiple),
        predict=predict,
        loss=Loss.per_sample(forced_loss if feed == "truth" else rolled_loss, relative_counts(dataset)),
        metrics=found,
        headline="rel_l2",
        frame_metrics=frame_metrics(dataset),
    )


def _shifted(window: Array, frame: Array) -> Array:
    """Return the window [B, N, frames, C] without its oldest frame and with `frame` at the end."""
    return jnp.concatenate([window[:, :, 1:], frame[:, :, None]], axis=2)
