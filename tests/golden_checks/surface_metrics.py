"""Golden files of the errors over whole surfaces: normalised fields of several runs, metrics per run and their mean."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.training.surface_metrics import mean_over_runs, relative_objective, surface_metrics
from tests.golden_checks.core import Comparison

TOLERANCE = 1e-5


def check(arrays: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> list[Comparison]:
    """Compare every metric of every run, the means, and the objective in physical units."""
    scale = (arrays["input/y_mean"], arrays["input/y_std"])
    runs = [
        surface_metrics(arrays[f"input/pred_{i}"][0], arrays[f"input/target_{i}"][0], *scale)
        for i in range(len(config["runs"]))
    ]
    expected = config["expected"]
    compared = [
        _compare(f"run {i} {name}", runs[i].get(name), value)
        for i, run in enumerate(expected["per_run"])
        for name, value in run.items()
    ]
    mean = mean_over_runs(runs)
    compared += [_compare(f"mean {name}", mean.get(name), value) for name, value in expected["mean"].items()]
    if "rel_l2_objective" in expected:
        objective = float(np.mean([relative_objective(run) for run in runs]))
        compared.append(_compare("objective", objective, expected["rel_l2_objective"]))
    return compared


def _compare(name: str, actual: float | None, expected: float) -> Comparison:
    error = float("inf") if actual is None else abs(actual - expected)
    return Comparison(name, "output", error, TOLERANCE * abs(expected))
