"""Figures of a run: the learning curve, and truth, prediction and error of the best, median and worst test case."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_TRAIN, _EMA, _RAW, _BASELINE = "#8a8f98", "#0b6fa4", "#d1662a", "#444444"


def save(figure: Figure, path: Path) -> None:
    """Write a PNG through a temporary file and release the figure."""
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".tmp.png")
    figure.savefig(temporary, dpi=150, bbox_inches="tight")
    temporary.replace(path)
    plt.close(figure)


def learning_curve(log: Sequence[Mapping[str, Any]], metric: str, baseline: float) -> Figure:
    """Draw training loss and test metric against the epoch, with the error of predicting the training mean."""
    figure, axes = plt.subplots(figsize=(6.4, 4.0))
    train = [line for line in log if line["event"] == "train"]
    tests = [line for line in log if line["event"] == "eval"]
    axes.semilogy(
        [line["epoch"] for line in train], [line["loss"] for line in train], color=_TRAIN, label="training loss"
    )
    for weights, color, style in (("ema", _EMA, "o-"), ("raw", _RAW, "s--")):
        name = f"test/{metric}_{weights}"
        points = [(line["epoch"], line[name]) for line in tests if name in line]
        if points:
            axes.semilogy(
                *zip(*points, strict=True), style, color=color, markersize=4, label=f"test, {weights} weights"
            )
    axes.axhline(baseline, color=_BASELINE, linestyle=":", label="predicting the training mean")
    axes.set_xlabel("epoch")
    axes.set_ylabel("relative L2 error")
    axes.grid(alpha=0.3, which="both", linewidth=0.5)
    axes.legend(frameon=False)
    return figure


def chosen_cases(errors: np.ndarray) -> dict[str, int]:
    """Return the indices of the best, the median and the worst case."""
    order = np.argsort(errors, kind="stable")
    return {"best": int(order[0]), "median": int(order[len(order) // 2]), "worst": int(order[-1])}


def case_figure(title: str, positions: np.ndarray, truth: np.ndarray, prediction: np.ndarray, field: str) -> Figure:
    """Draw truth, prediction and prediction − truth of one case at its points; arrays [N, 2] and [N]."""
    figure, panels = plt.subplots(1, 3, figsize=(13.0, 4.2), constrained_layout=True)
    low, high = float(min(truth.min(), prediction.min())), float(max(truth.max(), prediction.max()))
    error = prediction - truth
    bound = float(np.abs(error).max()) or 1.0
    _draw_points(panels[0], positions, truth, "truth", (low, high), "viridis", field)
    _draw_points(panels[1], positions, prediction, "prediction", (low, high), "viridis", field)
    _draw_points(panels[2], positions, error, "prediction − truth", (-bound, bound), "RdBu_r", field)
    figure.suptitle(title)
    return figure


def _draw_points(
    axes: Axes,
    positions: np.ndarray,
    values: np.ndarray,
    title: str,
    limits: tuple[float, float],
    colors: str,
    field: str,
) -> None:
    # Areas chosen so that neighbouring points just touch: the picture reads as a field, yet shows the real points.
    size = np.clip(9.0e4 / len(values), 1.0, 160.0)
    marks = axes.scatter(
        positions[:, 0], positions[:, 1], c=values, s=size, cmap=colors, vmin=limits[0], vmax=limits[1], linewidths=0
    )
    axes.set_title(title)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.figure.colorbar(marks, ax=axes, label=field, shrink=0.9)
