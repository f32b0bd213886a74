"""What training needs to know of a problem: its arrays, how to predict, the loss and the metrics.

The problems on points are in `experiments.training.tasks`; others provide another `Task` to the same training loop.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jax import Array

from experiments.training.packing import Params

Batch = Mapping[str, Array]


class Losses(NamedTuple):
    """What the samples of a batch add to the loss, [B]; what is added to it `beside` them; what is carried on."""

    values: Array
    beside: Array | None = None
    carry: Any = ()


@dataclass(frozen=True)
class Loss:
    """The loss of training: `of(params, batch, key, carry, first)` returns the `Losses` of a batch.

    `counts(batch)` says over how many labels or points each value is a sum, by default one: the loss of an optimizer
    step is the sum of the values of all its samples divided by the sum of these numbers, however the samples are cut
    into batches.

    With `empty` a step has one batch, which is presented `repeats` times, with an optimizer step each: `empty(batch)`
    returns a carry of zeros, each presentation what it leaves to the next one; they begin anew where the boolean array
    `first` is true. With `schedule_by_batch` the learning rate advances once per batch instead of once per step.
    """

    of: Callable[[Params, Batch, Array | None, Any, Array | bool], Losses]
    counts: Callable[[Batch], Array] | None = None
    empty: Callable[[Batch], Any] | None = None
    repeats: int = 1
    schedule_by_batch: bool = False

    @classmethod
    def per_sample(
        cls, values: Callable[[Params, Batch, Array | None], Array], counts: Callable[[Batch], Array] | None = None
    ) -> "Loss":
        """Return the loss whose values are `values(params, batch, key)`."""
        return cls(lambda params, batch, key, carry, first: Losses(values(params, batch, key)), counts)

    @classmethod
    def of_prediction(
        cls,
        predict: Callable[[Params, Batch, Array | None], Any],
        compare: Callable[[Any, Batch], Array],
        counts: Callable[[Batch], Array] | None = None,
    ) -> "Loss":
        """Return the loss whose values are `compare(prediction, batch)`."""
        return cls.per_sample(lambda params, batch, key: compare(predict(params, batch, key), batch), counts)


@dataclass(frozen=True)
class Task:
    """A supervised problem whose data sets fit in memory.

    `train` and each entry of `tests` map names to arrays with samples on axis 0 (points, if any, on axis 1; `edges` of
    graphs have numbers of their own there).
    `predict(params, batch, key)` returns the prediction in data units; each entry of `metrics` returns one number per
    sample of a prediction and its batch, shape [B], or several counts, of which no mean is reported; `loss` is what
    training lowers. `headline` names the metric that is evaluated on the split `selection` of `tests` in training, and
    ranks checkpoints unless that is `test`, which may choose nothing: lower is better unless `higher_is_better`.
    `points_per_sample` converts steps into points for the reported throughput, which calls them `points_are`.

    `weighted_by` names, for metrics whose mean over samples is a weighted one, the metric with the weights, which is
    not reported itself. `refresh(params, step, key)` returns the parameters that step begins with, for those that no
    gradient changes. `frame_metrics` are evaluated at the end of a run and return one number per sample and frame,
    shape [B, T]; so are `other_predictions`, by the headline metric.

    A row of `train` can hold several training samples: with `windows` above 1 a batch has the number of the window,
    `window` [B], beside the rows. `bucket_sizes`, where given, are ascending numbers of points to which rows of `train`
    are cut, each to the smallest that holds its points, by the mask; batches then come from one bucket each.

    Every `diagnostics_every` steps (0: never) `diagnostics(params, batch, key)` gives what the mixers of the model say
    of themselves in the training step with that key: `blocks` and their `mean`.
    """

    train: Mapping[str, np.ndarray]
    tests: Mapping[str, Mapping[str, np.ndarray]]
    predict: Callable[[Params, Batch, Array | None], Array]
    loss: Loss
    metrics: Mapping[str, Callable[[Array, Batch], Array]]
    headline: str
    points_per_sample: int
    points_are: str = "points"
    higher_is_better: bool = False
    selection: str = "test"
    weighted_by: Mapping[str, str] = field(default_factory=dict)
    refresh: Callable[[Params, Array, Array], Params] | None = None
    frame_metrics: Mapping[str, Callable[[Array, Batch], Array]] = field(default_factory=dict)
    other_predictions: Mapping[str, Callable[[Params, Batch, Array | None], Array]] = field(default_factory=dict)
    windows: int = 1
    bucket_sizes: tuple[int, ...] = ()
    diagnostics: Callable[[Params, Batch, Array], Mapping[str, Any]] | None = None
    diagnostics_every: int = 0

    @property
    def num_train(self) -> int:
        return len(next(iter(self.train.values()))) * self.windows

    @property
    def ranks(self) -> bool:
        """Whether checkpoints are ranked: only samples that validate may choose one."""
        return not self.selection.startswith("test")


def summarize_per_case(per_case: Mapping[str, np.ndarray], weighted_by: Mapping[str, str]) -> dict[str, float]:
    """Return the mean over samples of every metric, a weighted one where `weighted_by` names weights.

    Samples for which a metric is NaN, that is not defined, are left out, and so are metrics of several numbers per
    sample, which are counts.
    """
    weights = {name: per_case[other] for name, other in weighted_by.items()}
    return {
        name: _mean(values, weights.get(name))
        for name, values in per_case.items()
        if name not in weighted_by.values() and np.ndim(values) == 1
    }


def mean_of_defined(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Return the mean of the values that are not NaN, which is NaN where there are none."""
    return np.ma.filled(np.ma.masked_array(values, np.isnan(values)).mean(axis, dtype=np.float64), np.nan)


def _mean(values: np.ndarray, weights: np.ndarray | None) -> float:
    if weights is None:
        return float(mean_of_defined(values))
    # Without any weight nothing counts, and a mean of nothing is reported as 0.
    return float(np.average(values, weights=weights)) if np.sum(weights) > 0 else 0.0
