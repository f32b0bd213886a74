"""Tables of runs on printed parts: errors per part, per step and part, medians."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.training.evaluate import PerCase
from runtime.files import replacing
from runtime.json_files import write_json


def write_cases(path: Path, names: Sequence[str], per_case: PerCase) -> None:
    """Write mean squared error and R² of every part, in the original's columns."""
    rows = zip(names, per_case["mse"], per_case["r2"], strict=True)
    _write(path, ["case_num", "case_name", "MSE", "R-Square"], [[i, *row] for i, row in enumerate(rows)])


def write_steps(path: Path, names: Sequence[str], values: np.ndarray) -> None:
    """Write values [S, T], a column per part and a row per step; steps of which nothing is predicted are blank."""
    _write(path, list(names), [list(row) for row in values.T])


def write_medians(path: Path, per_split: Mapping[str, PerCase], points: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Write and return medians and quartiles over the parts of each split, and the relative error of all together.

    The latter, √(Σ‖p − t‖² / Σ‖t‖²), is not dominated by parts that hardly move, as the mean over parts is. `points`
    are the numbers of entries of which the mean squared error of every part is the mean.
    """
    content = {}
    for split, per_case in per_split.items():
        content[split] = {"parts": len(per_case["r2"]), "rel_l2_pooled": _pooled(per_case, points[split])}
        for metric, values in per_case.items():
            defined = values[np.isfinite(values)]
            names = ("quartile_low", "median", "quartile_high")
            quantiles = np.quantile(defined, (0.25, 0.5, 0.75)) if len(defined) else (np.nan,) * 3
            content[split][metric] = dict(zip(names, map(float, quantiles), strict=True))
    write_json(path, content)
    return content


def _pooled(per_case: PerCase, points: np.ndarray) -> float:
    error, relative = np.asarray(per_case["mse"], np.float64) * points, np.asarray(per_case["rel_l2"], np.float64)
    counts = np.isfinite(relative) & (relative > 0)
    truth = np.sum(error[counts] / np.square(relative[counts]))
    return float(np.sqrt(error[counts].sum() / truth)) if truth else float("nan")


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([[_text(value) for value in row] for row in rows])


def _text(value: Any) -> str:
    if isinstance(value, str | int):
        return str(value)
    return "" if np.isnan(value) else f"{value:.8g}"
