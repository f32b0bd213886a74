"""The seeds of a run as one predictor: the average of their predictions, and what their spread says of its error.

A field is predicted by the mean over the seeds; its standard deviation over them, times one factor for all fields, is
taken as the error's. The factor is chosen on samples that it is not judged by.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

from experiments.training.evaluate import PerCase, make_evaluator
from experiments.training.packing import Params
from experiments.training.setup import Setup
from experiments.training.task import Batch, Task, summarize_per_case

LEVEL = 0.9
# Errors of so many standard deviations bound the interval of a normal distribution.
HALF_WIDTH = NormalDist().inv_cdf((1 + LEVEL) / 2)
# Bins of |error| / standard deviation, each half a percent wide, with one below and one above.
_EDGES = np.exp(np.arange(np.log(1e-4), np.log(1e4), 0.005))
_RATIOS = "spread_ratios"

# From predictions, trees of arrays with the seeds on their first axis, to one of them.
Average = Callable[[Any], Any]


def stacked(members: Sequence[Params]) -> Params:
    """Return the parameters of several seeds as one dictionary, with the seeds on the first axis of every array."""
    return jax.tree.map(lambda *values: np.stack(values), *members)


def mean_and_deviation(predictions: Float[Array, "S ..."]) -> tuple[Array, Array]:
    """Return the mean over seeds and their sample standard deviation."""
    return jnp.mean(predictions, axis=0), jnp.std(predictions, axis=0, ddof=1)


def averaged(task: Task, average: Average) -> Task:
    """Return the task whose parameters are `stacked` ones, predicting `average` of the seeds' predictions [S, ...]."""
    return replace(task, predict=_predicting(task, average))


def with_spread(task: Task) -> Task:
    """Return the task of fields that predicts their mean over seeds; the spread's ratios are among its metrics."""

    def of_mean(metric: Callable[[Array, Batch], Array]) -> Callable[[tuple[Array, Array], Batch], Array]:
        return lambda prediction, batch: metric(prediction[0], batch)

    metrics = {name: of_mean(metric) for name, metric in task.metrics.items()}
    return replace(task, predict=_predicting(task, mean_and_deviation), metrics={**metrics, _RATIOS: _count_ratios})


def _predicting(task: Task, average: Average) -> Callable[[Params, Batch, Array | None], Any]:
    def predict(params: Params, batch: Batch, key: Array | None) -> Any:
        return average(jax.lax.map(lambda one: task.predict(one, batch, key), params))

    return predict


def _count_ratios(prediction: tuple[Array, Array], batch: Batch) -> Int[Array, "B K"]:
    """Return how many entries of each sample's fields have |error| / standard deviation in each bin.

    Entries that were given and not predicted, on which all seeds and the truth agree, do not count.
    """
    mean, deviation = prediction
    truth = batch["y"] if mean.ndim < 4 else batch["y"][:, :, -mean.shape[2] :]
    points = batch.get("free", batch.get("mask"))
    counted = jnp.ones(mean.shape[:2], bool) if points is None else points
    counted = jnp.broadcast_to(counted.reshape(*counted.shape, *[1] * (mean.ndim - 2)), mean.shape)
    error = jnp.abs(mean - truth)
    counted &= (error != 0) | (deviation != 0)
    ratio = jnp.where(error == 0, 0.0, error / deviation)
    bins = jnp.searchsorted(jnp.asarray(_EDGES, ratio.dtype), ratio, side="left")

    def count(bins: Array, counted: Array) -> Array:
        return jnp.zeros(len(_EDGES) + 1, jnp.int32).at[bins.ravel()].add(counted.ravel().astype(jnp.int32))

    return jax.vmap(count)(bins, counted)


@dataclass(frozen=True)
class Spread:
    """How well the standard deviation over seeds tells the error, in intervals that ought to hold `LEVEL` of the truth.

    `factor` multiplies it; it was chosen on `calibrated_on`. `coverage` and `uncalibrated` are the shares of entries
    of each split that lie within the intervals, with and without the factor.
    """

    factor: float
    calibrated_on: str
    coverage: Mapping[str, float]
    uncalibrated: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return the content for eval.json."""
        return {"level": LEVEL, **vars(self)}

    def describe(self) -> str:
        """Return the result as one line."""
        shares = ", ".join(
            f"{name} {100 * share:.1f} % (as they are {100 * self.uncalibrated[name]:.1f} %)"
            for name, share in self.coverage.items()
        )
        return (
            f"{100 * LEVEL:.0f} % intervals of the spread over seeds times {self.factor:.3g}, calibrated on "
            f"{self.calibrated_on}, hold the truth: {shares}"
        )


def evaluate_spread(
    setup: Setup, members: Sequence[Params], validation: str | None
) -> tuple[dict[str, PerCase], Spread | None]:
    """Return the metrics per sample of the mean prediction on every test, and what the spread says of its error.

    The factor is chosen on the split `validation`; without one on the first half of the first test, whose other half
    is then judged. There is no spread where nothing was predicted with an error, or all seeds predict the same.
    """
    task = with_spread(setup.task)
    results = _evaluate(setup, task, members)
    ratios = {name: per_case.pop(_RATIOS) for name, per_case in results.items()}
    return results, calibrate(ratios, validation)


def report_fields(setup: Setup, members: Sequence[Params]) -> tuple[dict[str, float], dict[str, Any], list[str]]:
    """Return means of the metrics of the mean prediction, what eval.json says of the spread, and lines for people."""
    selection = setup.task.selection
    results, spread = evaluate_spread(setup, members, None if selection.startswith("test") else selection)
    means = means_of(results, setup.task.weighted_by)
    return means, {"spread": spread and spread.to_json()}, [spread.describe()] if spread else []


def evaluate_average(setup: Setup, members: Sequence[Params], average: Average) -> dict[str, PerCase]:
    """Return the metrics per sample of the averaged prediction on every test."""
    return _evaluate(setup, averaged(setup.task, average), members)


def means_of(results: Mapping[str, PerCase], weighted_by: Mapping[str, str]) -> dict[str, float]:
    """Return the means over samples by split and metric; `weighted_by` is that of the task."""
    means = {split: summarize_per_case(per_case, weighted_by) for split, per_case in results.items()}
    return {f"{split}/{metric}": value for split, found in means.items() for metric, value in found.items()}


def _evaluate(setup: Setup, task: Task, members: Sequence[Params]) -> dict[str, PerCase]:
    evaluate = make_evaluator(task, setup.eval_batch_size, setup.mesh)
    params = setup.mesh.replicate(stacked(members))
    return {name: evaluate(params, setup.mesh.place_dataset(arrays)) for name, arrays in task.tests.items()}


def calibrate(ratios: Mapping[str, Int[np.ndarray, "S K"]], validation: str | None) -> Spread | None:
    """Return the spread's factor and coverages from the counts of every sample of every split."""
    splits = dict(ratios)
    if validation is None:
        name = next(iter(splits))
        half = -(-len(splits[name]) // 2)
        first, second = f"the first half of {name}", f"the second half of {name}"
        splits = {first: splits[name][:half], second: splits.pop(name)[half:], **splits}
        validation = first
    totals = {name: counts.sum(axis=0, dtype=np.int64) for name, counts in splits.items()}
    below = np.cumsum(totals.pop(validation))
    last = int(np.searchsorted(below, LEVEL * below[-1]))
    if below[-1] == 0 or last >= len(_EDGES):
        return None
    shares = {name: np.cumsum(counts) / counts.sum() for name, counts in totals.items() if counts.sum()}
    plain = int(np.searchsorted(_EDGES, HALF_WIDTH))
    return Spread(
        float(_EDGES[last] / HALF_WIDTH),
        validation,
        {name: float(share[last]) for name, share in shares.items()},
        {name: float(share[plain]) for name, share in shares.items()},
    )
