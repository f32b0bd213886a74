"""Metrics of series of frames, over all of them and frame by frame."""

from collections.abc import Callable, Mapping
from functools import partial

from jax import Array

from experiments.training import losses
from experiments.training.task import Batch

Metric = Callable[[Array, Batch], Array]
_FUNCTIONS = {"rel_l2": losses.relative_l2, "mse": losses.mean_squared_error, "r2": losses.r_squared}


def metrics(points: str = "mask", first: int = 0) -> Mapping[str, Metric]:
    """Return the metrics per sample of frames [B, N, T, C] against the targets from frame `first` on.

    `points` names the array of the batch that is true at the points that count.
    """
    return {name: partial(_compare, function, points, first) for name, function in _FUNCTIONS.items()}


def frame_metrics(points: str = "mask", first: int = 0) -> Mapping[str, Metric]:
    """Return the same metrics per sample and frame, [B, T]."""
    return {
        name: partial(_compare, partial(function, per_frame=True), points, first)
        for name, function in _FUNCTIONS.items()
    }


def _compare(function: Callable[..., Array], points: str, first: int, prediction: Array, batch: Batch) -> Array:
    return function(prediction, batch["y"][:, :, first:], batch.get(points))
