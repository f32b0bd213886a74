"""What training needs to know of a problem: its arrays, how to predict, the loss and the metrics.

Steady PDE regression is here; other problems provide another `Task` to the same training loop.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from data_pipeline.dataset import PDEDataset, Split
from experiments.training.losses import relative_l2
from experiments.training.packing import Params

Batch = Mapping[str, Array]


@dataclass(frozen=True)
class Task:
    """A supervised problem whose data sets fit in memory.

    `train` and each entry of `tests` map names to arrays with samples on axis 0 (points, if any, on axis 1).
    `predict(params, batch, key)` returns the prediction in data units; `loss(prediction, batch)` and each entry of
    `metrics` return one number per sample, shape [B]. `headline` names the metric that ranks checkpoints (lower is
    better). `points_per_sample` converts steps into points for the reported throughput.
    """

    train: Mapping[str, np.ndarray]
    tests: Mapping[str, Mapping[str, np.ndarray]]
    predict: Callable[[Params, Batch, Array | None], Array]
    loss: Callable[[Array, Batch], Array]
    metrics: Mapping[str, Callable[[Array, Batch], Array]]
    headline: str
    points_per_sample: int

    @property
    def num_train(self) -> int:
        return len(next(iter(self.train.values())))


def _arrays(split: Split) -> dict[str, np.ndarray]:
    arrays = {"x": split.x, "y": split.y}
    return arrays if split.mask is None else {**arrays, "mask": split.mask}


def pad_points(arrays: Mapping[str, np.ndarray], multiple: int) -> dict[str, np.ndarray]:
    """Pad axis 1 to a multiple of `multiple` with masked points, so that it can be split over devices."""
    samples, points = arrays["x"].shape[:2]
    extra = -points % multiple
    if not extra:
        return dict(arrays)
    masked = {"mask": np.ones((samples, points), bool), **arrays}
    widths = {name: [(0, 0), (0, extra)] + [(0, 0)] * (value.ndim - 2) for name, value in masked.items()}
    return {name: np.pad(value, widths[name]) for name, value in masked.items()}


def regression_task(dataset: PDEDataset, apply: Callable[..., Array], points_multiple: int = 1) -> Task:
    """Return the task of predicting `dataset`'s fields with `apply(params, x, mask)`: relative L2 in data units."""
    normalizer = dataset.y_normalizer

    def predict(params: Params, batch: Batch, key: Array | None) -> Array:
        del key  # none of these models draws random numbers
        return normalizer.decode(apply(params, batch["x"], batch.get("mask")).astype(jnp.float32))

    def relative(prediction: Array, batch: Batch) -> Array:
        return relative_l2(prediction, batch["y"], batch.get("mask"))

    return Task(
        train=pad_points(_arrays(dataset.train), points_multiple),
        tests={name: pad_points(_arrays(split), points_multiple) for name, split in dataset.tests.items()},
        predict=predict,
        loss=relative,
        metrics={"rel_l2": relative},
        headline="rel_l2",
        points_per_sample=dataset.train.x.shape[1],
    )


def mean_predictor_error(dataset: PDEDataset, split: Split) -> float:
    """Return the relative L2 of predicting the training mean of each channel everywhere: what any model must beat."""
    batch: dict[str, Any] = _arrays(split)
    constant = np.broadcast_to(dataset.y_normalizer.mean, split.y.shape)
    return float(np.mean(relative_l2(constant, batch["y"], batch.get("mask"))))
