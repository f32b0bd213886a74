"""Metrics of series of frames, over all of them and frame by frame."""

from collections.abc import Callable, Mapping
from functools import partial

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from data_pipeline.dataset import PDEDataset
from experiments.training import losses
from experiments.training.task import Batch

Metric = Callable[[Array, Batch], Array]


def metrics(dataset: PDEDataset, points: str = "mask", first: int = 0) -> Mapping[str, Metric]:
    """Return the metrics per sample of frames [B, N, T, C] against the targets from frame `first` on.

    `points` names the array of the batch that is true at the points that count.
    """
    return {name: partial(_compare, function, points, first) for name, function in _functions(dataset).items()}


def frame_metrics(dataset: PDEDataset, points: str = "mask", first: int = 0) -> Mapping[str, Metric]:
    """Return the same metrics per sample and frame, [B, T]."""
    return {
        name: partial(_compare, partial(function, per_frame=True), points, first)
        for name, function in _functions(dataset).items()
    }


def frame_at(series: Float[Array, "B N T C"], index: Int[Array, " B"]) -> Float[Array, "B N C"]:
    """Return one frame of each sample."""
    return jnp.take_along_axis(series, index[:, None, None, None], axis=2)[:, :, 0]


def _functions(dataset: PDEDataset) -> Mapping[str, Callable[..., Array]]:
    relative = partial(losses.relative_l2, offset=dataset.metric_offset)
    return {"rel_l2": relative, "mse": losses.mean_squared_error, "r2": losses.r_squared}


def _compare(function: Callable[..., Array], points: str, first: int, prediction: Array, batch: Batch) -> Array:
    return function(prediction, batch["y"][:, :, first:], batch.get(points))
