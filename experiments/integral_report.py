"""Integrals of predictions beside those of the truth: forces and coefficients, fluxes, means."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_pipeline.custom.integrals import Integral, Weights, integrate
from data_pipeline.custom.regions import PointRegions
from data_pipeline.custom.rollout import DISPLACEMENT
from data_pipeline.dataset import PDEDataset
from runtime.files import replacing

Fields = Mapping[str, np.ndarray]
_ROUND_OFF = 1e-6


class Value(NamedTuple):
    """One number of an integral of one sample, at a `time` of series; the truth is NaN where it is not known."""

    case: str
    integral: str
    component: str
    truth: float
    prediction: float
    time: float | None = None


def values_of(
    case: str,
    wanted: Sequence[Integral],
    weights: Sequence[Weights],
    prediction: Fields,
    truth: Fields,
    reference: float,
    time: float | None = None,
    true_weights: Sequence[Weights] | None = None,
) -> Iterator[Value]:
    """Yield the numbers of every integral of a sample, forces also as coefficients where `reference` is not 0.

    `true_weights` are those of the truth, where its points are elsewhere.
    """
    for one, weight, true_weight in zip(wanted, weights, true_weights or weights, strict=True):
        found = integrate(one, prediction, weight)
        known = all(name in truth and np.isfinite(truth[name]).all() for name in one.fields)
        true = integrate(one, truth, true_weight) if known else np.full(len(found), np.nan)
        names = "xyz" if one.kind == "force" else [""] if len(found) == 1 else map(str, range(len(found)))
        for name, expected, value in zip(names, true, found, strict=False):
            yield Value(case, one.name, name, float(expected), float(value), time)
            if one.kind == "force" and reference:
                yield Value(case, one.name, f"c{name}", float(expected / reference), float(value / reference), time)


def values_of_steps(
    case: str,
    wanted: Sequence[Integral],
    weights: Sequence[Weights],
    prediction: Fields,
    truth: Fields,
    reference: float,
    times: Sequence[float],
    moving: tuple[PointRegions, Sequence[int]] | None = None,
) -> Iterator[Value]:
    """Yield the numbers of a series, fields [N, T, C] at `times` [T]; an unknown truth is left out.

    Where points move, `moving` are the regions and the coordinates of the displacement, and every step has weights
    of its own: the prediction at its points, the truth at those of the data.
    """
    for step, time in enumerate(times):
        fields = [{name: values[:, step] for name, values in part.items()} for part in (prediction, truth)]
        places = [weights, weights]
        if moving is not None:
            regions, axes = moving
            shifts = [np.zeros_like(regions.points) for _ in fields]
            for shift, part in zip(shifts, fields, strict=True):
                shift[:, list(axes)] = part.get(DISPLACEMENT, 0.0)
            places = [regions.weights(shift) for shift in shifts]
        yield from values_of(case, wanted, places[0], *fields, reference, float(time), places[1])


def values_of_test(dataset: PDEDataset, name: str, predict: Callable[[int], np.ndarray]) -> list[Value]:
    """Return the numbers of all samples of test `name`, of which `predict(case)` gives the outputs [N, C]."""
    split, integrals, values = dataset.tests[name], dataset.integrals, []
    for case, weights in enumerate(integrals.weights[name]):
        real, prediction, truth = split.real(case), predict(case), split.y[case]
        in_time = truth.ndim == 3
        truth = truth[:, 1:] if in_time else truth  # the first step of a series is given
        fields = [
            dataset.channels.split(np.asarray(field[: len(real)], np.float64)[real] + dataset.offset)
            for field in (prediction, truth)
        ]
        given = (dataset.case_name(name, case), integrals.wanted, weights, *fields, integrals.reference)
        if in_time:
            moving = (integrals.moving[name][case], dataset.channels.axes) if integrals.moving else None
            values += values_of_steps(*given, dataset.times[1:], moving)
        else:
            values += values_of(*given)
    return values


def summarize_values(values: Sequence[Value]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return by integral and component the mean error, and the error of all samples relative to their size.

    Of series also the mean error, truth and prediction `by_frame`, at every time. Samples without a truth do not count.
    """
    groups: dict[tuple[str, str], list[Value]] = {}
    for value in values:
        if np.isfinite(value.truth):
            groups.setdefault((value.integral, value.component), []).append(value)
    summary: dict[str, dict[str, dict[str, Any]]] = {}
    for (integral, component), found in groups.items():
        truth, prediction = (np.array([getattr(one, name) for one in found]) for name in ("truth", "prediction"))
        size = float(np.linalg.norm(truth))
        numbers = {"mean_error": float(np.abs(prediction - truth).mean())}
        # The truth of what cancels is round-off, to which nothing is relative.
        if size > _ROUND_OFF * np.linalg.norm(prediction):
            numbers["rel_l2"] = float(np.linalg.norm(prediction - truth) / size)
        if found[0].time is not None:
            numbers["by_frame"] = _by_frame(found)
        summary.setdefault(integral, {})[component] = numbers
    return summary


def _by_frame(values: Sequence[Value]) -> dict[str, list[float]]:
    times = sorted({one.time for one in values})
    frames = [np.array([(one.truth, one.prediction) for one in values if one.time == time]) for time in times]
    return {
        "time": times,
        "truth": [float(frame[:, 0].mean()) for frame in frames],
        "prediction": [float(frame[:, 1].mean()) for frame in frames],
        "mean_error": [float(np.abs(frame[:, 1] - frame[:, 0]).mean()) for frame in frames],
    }


def value_lines(where: str, summary: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """Return one line per integral."""
    lines = []
    for integral, components in summary.items():
        texts = [
            f"{component} mean error {numbers['mean_error']:.4e}".strip()
            + (f" (relative {numbers['rel_l2']:.4e})" if "rel_l2" in numbers else "")
            for component, numbers in components.items()
            if numbers["mean_error"] or "rel_l2" in numbers  # forces across a plane are 0
        ]
        lines.append(f"  {where} {integral}: {', '.join(texts)}")
    return lines


def write_values(path: Path, values: Sequence[Value]) -> None:
    """Write one row per number: sample, integral, component, truth (empty where it is not known), prediction.

    Of series the time is in a last column.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        in_time = any(value.time is not None for value in values)
        writer.writerow(Value._fields if in_time else Value._fields[:-1])
        for value in values:
            truth = f"{value.truth:.8g}" if np.isfinite(value.truth) else ""
            row = [*value[:3], truth, f"{value.prediction:.8g}"]
            writer.writerow([*row, f"{value.time:.8g}"] if in_time else row)
