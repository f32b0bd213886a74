"""What training needs to know of a problem: its arrays, how to predict, the loss and the metrics.

The problems on points are in `experiments.training.tasks`; others provide another `Task` to the same training loop.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jax import Array

from experiments.training.packing import Params

Batch = Mapping[str, Array]


@dataclass(frozen=True)
class Recurrence:
    """Training in which every batch is presented `repeats` times, with an optimizer step and a state carried between.

    `empty(batch)` returns a state of zeros; `loss(params, batch, key, carry, first)` returns the batch's loss and the
    next state, beginning anew where the boolean array `first` is true. With `schedule_by_batch` the learning rate
    advances once per batch instead of once per step.
    """

    repeats: int
    empty: Callable[[Batch], Any]
    loss: Callable[[Params, Batch, Array, Any, Array], tuple[Array, Any]]
    schedule_by_batch: bool = False


@dataclass(frozen=True)
class Task:
    """A supervised problem whose data sets fit in memory.

    `train` and each entry of `tests` map names to arrays with samples on axis 0 (points, if any, on axis 1; `edges` of
    graphs have numbers of their own there).
    `predict(params, batch, key)` returns the prediction in data units; `loss(prediction, batch)` and each entry of
    `metrics` return one number per sample, shape [B]. `loss_counts(batch)` says over how many labels or points that of
    the loss is a sum, by default one: the loss of an optimizer step is the sum over all its samples divided by the sum
    of these numbers, however the samples are cut into batches. `headline` names the metric that is evaluated on the
    split `selection` of `tests` in training, and ranks checkpoints unless that is `test`, which may choose nothing:
    lower is better unless `higher_is_better`. `points_per_sample` converts steps into points for the reported
    throughput.

    `weighted_by` names, for metrics whose mean over samples is a weighted one, the metric with the weights, which is
    not reported itself. `recurrence` replaces prediction and loss in training, and so does
    `train_loss(params, batch, key)`, which returns one number per sample. `refresh(params, step, key)` returns the
    parameters that step begins with, for those that no gradient changes. `frame_metrics` are evaluated at the end of a
    run and return one number per sample and frame, shape [B, T]; so are `other_predictions`, by the headline metric.

    A row of `train` can hold several training samples: with `windows` above 1 a batch has the number of the window,
    `window` [B], beside the rows. `bucket_sizes`, where given, are ascending numbers of points to which rows of `train`
    are cut, each to the smallest that holds its points, by the mask; batches then come from one bucket each.
    """

    train: Mapping[str, np.ndarray]
    tests: Mapping[str, Mapping[str, np.ndarray]]
    predict: Callable[[Params, Batch, Array | None], Array]
    loss: Callable[[Array, Batch], Array]
    metrics: Mapping[str, Callable[[Array, Batch], Array]]
    headline: str
    points_per_sample: int
    higher_is_better: bool = False
    selection: str = "test"
    weighted_by: Mapping[str, str] = field(default_factory=dict)
    recurrence: Recurrence | None = None
    refresh: Callable[[Params, Array, Array], Params] | None = None
    train_loss: Callable[[Params, Batch, Array], Array] | None = None
    loss_counts: Callable[[Batch], Array] | None = None
    frame_metrics: Mapping[str, Callable[[Array, Batch], Array]] = field(default_factory=dict)
    other_predictions: Mapping[str, Callable[[Params, Batch, Array | None], Array]] = field(default_factory=dict)
    windows: int = 1
    bucket_sizes: tuple[int, ...] = ()

    @property
    def num_train(self) -> int:
        return len(next(iter(self.train.values()))) * self.windows

    @property
    def ranks(self) -> bool:
        """Whether checkpoints are ranked: only samples that validate may choose one."""
        return not self.selection.startswith("test")

    @property
    def repeats(self) -> int:
        """How many optimizer steps are made on a batch."""
        return 1 if self.recurrence is None else self.recurrence.repeats


def summarize_per_case(per_case: Mapping[str, np.ndarray], weighted_by: Mapping[str, str]) -> dict[str, float]:
    """Return the mean over samples of every metric, a weighted one where `weighted_by` names weights.

    Samples for which a metric is NaN, that is not defined, are left out.
    """
    weights = {name: per_case[other] for name, other in weighted_by.items()}
    return {
        name: _mean(values, weights.get(name)) for name, values in per_case.items() if name not in weighted_by.values()
    }


def mean_of_defined(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Return the mean of the values that are not NaN, which is NaN where there are none."""
    return np.ma.filled(np.ma.masked_array(values, np.isnan(values)).mean(axis, dtype=np.float64), np.nan)


def _mean(values: np.ndarray, weights: np.ndarray | None) -> float:
    if weights is None:
        return float(mean_of_defined(values))
    # Without any weight nothing counts, and a mean of nothing is reported as 0.
    return float(np.average(values, weights=weights)) if np.sum(weights) > 0 else 0.0
