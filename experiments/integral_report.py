"""Integrals of predictions beside those of the truth: forces and coefficients, fluxes, means."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_pipeline.custom.integrals import Integral, Weights, integrate
from data_pipeline.dataset import PDEDataset
from runtime.files import replacing

Fields = Mapping[str, np.ndarray]


class Value(NamedTuple):
    """One number of an integral of one sample; the truth is NaN where it is not known."""

    case: str
    integral: str
    component: str
    truth: float
    prediction: float


def values_of(
    case: str,
    wanted: Sequence[Integral],
    weights: Sequence[Weights],
    prediction: Fields,
    truth: Fields,
    reference: float,
) -> Iterator[Value]:
    """Yield the numbers of every integral of a sample, forces also as coefficients where `reference` is not 0."""
    for one, weight in zip(wanted, weights, strict=True):
        found = integrate(one, prediction, weight)
        known = all(name in truth and np.isfinite(truth[name]).all() for name in one.fields)
        true = integrate(one, truth, weight) if known else np.full(len(found), np.nan)
        names = "xyz" if one.kind == "force" else [""] if len(found) == 1 else map(str, range(len(found)))
        for name, expected, value in zip(names, true, found, strict=False):
            yield Value(case, one.name, name, float(expected), float(value))
            if one.kind == "force" and reference:
                yield Value(case, one.name, f"c{name}", float(expected / reference), float(value / reference))


def values_of_test(dataset: PDEDataset, name: str, predict: Callable[[int], np.ndarray]) -> list[Value]:
    """Return the numbers of all samples of test `name`, of which `predict(case)` gives the outputs [N, C]."""
    split, integrals, values = dataset.tests[name], dataset.integrals, []
    for case, weights in enumerate(integrals.weights[name]):
        real = split.real(case)
        fields = [
            dataset.channels.split(np.asarray(field, np.float64)[real] + dataset.offset)
            for field in (predict(case)[: len(real)], split.y[case])
        ]
        values += values_of(
            dataset.case_name(name, case), integrals.wanted, weights, *fields, reference=integrals.reference
        )
    return values


def summarize_values(values: Sequence[Value]) -> dict[str, dict[str, dict[str, float]]]:
    """Return by integral and component the mean error, and the error of all samples relative to their size.

    Samples without a truth do not count.
    """
    groups: dict[tuple[str, str], list[Value]] = {}
    for value in values:
        if np.isfinite(value.truth):
            groups.setdefault((value.integral, value.component), []).append(value)
    summary: dict[str, dict[str, dict[str, float]]] = {}
    for (integral, component), found in groups.items():
        truth, prediction = (np.array([getattr(one, name) for one in found]) for name in ("truth", "prediction"))
        size = float(np.linalg.norm(truth))
        numbers = {"mean_error": float(np.abs(prediction - truth).mean())}
        numbers |= {"rel_l2": float(np.linalg.norm(prediction - truth) / size)} if size else {}
        summary.setdefault(integral, {})[component] = numbers
    return summary


def value_lines(where: str, summary: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """Return one line per integral."""
    lines = []
    for integral, components in summary.items():
        texts = [
            f"{component} mean error {numbers['mean_error']:.4e}".strip()
            + (f" (relative {numbers['rel_l2']:.4e})" if "rel_l2" in numbers else "")
            for component, numbers in components.items()
        ]
        lines.append(f"  {where} {integral}: {', '.join(texts)}")
    return lines


def write_values(path: Path, values: Sequence[Value]) -> None:
    """Write one row per number: sample, integral, component, truth (empty where it is not known), prediction."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Value._fields)
        for value in values:
            truth = f"{value.truth:.8g}" if np.isfinite(value.truth) else ""
            writer.writerow([*value[:3], truth, f"{value.prediction:.8g}"])
