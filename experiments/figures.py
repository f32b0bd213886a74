"""Figures of a run: the learning curve, and truth, prediction and error of the best, median and worst test case."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from experiments.training.records import curve
from runtime.files import replacing

_TRAIN, _EMA, _RAW, _BASELINE = "#8a8f98", "#0b6fa4", "#d1662a", "#444444"


def save(figure: Figure, path: Path, dpi: int = 150) -> None:
    """Write a figure in the format of the suffix, whole or not at all, and release it."""
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=dpi, bbox_inches="tight")


def learning_curve(
    log: Sequence[Mapping[str, Any]],
    metric: str,
    baseline: float,
    baseline_label: str = "predicting the training mean",
    error_label: str = "relative L2 error",
    split: str = "test",
) -> Figure:
    """Draw training loss and errors against the epoch, and beside them the gradient's norm and the learning rate.

    The errors are those on `split` and on some training samples, with that of a prediction without a model.
    """
    figure = Figure(figsize=(15.0, 4.0), layout="constrained")
    axes, gradient, rate = figure.subplots(1, 3, width_ratios=(3, 2, 2))
    axes.semilogy(*curve(log, "train", "loss"), color=_TRAIN, label="training loss")
    for weights, color, style in (("ema", _EMA, "o-"), ("raw", _RAW, "s--")):
        for part, words, size in ((split, split, 4), ("train", "training samples", 2)):
            epochs, values = curve(log, "eval", f"{part}/{metric}_{weights}")
            if epochs:
                label = f"{words}, {weights} weights"
                alpha = 0.5 if part == "train" else 1.0
                axes.semilogy(epochs, values, style, color=color, markersize=size, alpha=alpha, label=label)
    draw_optimization(gradient, rate, log)
    axes.axhline(baseline, color=_BASELINE, linestyle=":", label=baseline_label)
    axes.set_xlabel("epoch")
    axes.set_ylabel(error_label)
    axes.grid(alpha=0.3, which="both", linewidth=0.5)
    axes.legend(frameon=False)
    return figure


def draw_optimization(gradient: Axes, rate: Axes, log: Sequence[Mapping[str, Any]]) -> None:
    """Draw the norm of the gradient and the learning rate, or both of them, against the epoch."""
    matrices = curve(log, "train", "muon_learning_rate")
    for axes, name, words in (
        (gradient, "grad_norm", "norm of the gradient"),
        (rate, "learning_rate", "learning rate"),
    ):
        # The mark shows a run of a single chunk too.
        axes.plot(*curve(log, "train", name), ".-", color=_TRAIN, markersize=3, label="AdamW")
        if axes is rate and matrices[0]:
            axes.plot(*matrices, ".-", color=_RAW, markersize=3, label="Muon")
            axes.legend(frameon=False)
        axes.set_yscale("log")
        axes.set_xlabel("epoch")
        axes.set_ylabel(words)
        axes.grid(alpha=0.3, which="both", linewidth=0.5)


def chosen_cases(errors: np.ndarray) -> dict[str, int]:
    """Return the indices of the best, the median and the worst case among those with an error, or among all."""
    order = np.argsort(errors, kind="stable")  # NaN comes last
    order = order[: np.count_nonzero(~np.isnan(errors)) or None]
    return {"best": int(order[0]), "median": int(order[len(order) // 2]), "worst": int(order[-1])}


def visible(points: np.ndarray, most: int = 40_000) -> np.ndarray:
    """Return at most `most` of the indices `points`, a fixed random choice of them in order."""
    if len(points) <= most:
        return points
    return np.sort(np.random.default_rng(0).choice(points, most, replace=False))


def case_figure(title: str, positions: np.ndarray, truth: np.ndarray, prediction: np.ndarray, field: str) -> Figure:
    """Draw truth, prediction and prediction − truth of one case at its points; arrays [N, 2 or 3] and [N]."""
    return draw_panels(title, positions, truth[:, None], prediction[:, None], field)[0]


def draw_panels(
    title: str, positions: np.ndarray, truth: np.ndarray, prediction: np.ndarray, field: str
) -> tuple[Figure, tuple[PathCollection, ...]]:
    """Draw the first frame of truth, prediction and their difference [N, T], with colours for the range of all frames.

    Returns the figure and the marks of the three panels.
    """
    error = prediction - truth
    low, high = float(min(truth.min(), prediction.min())), float(max(truth.max(), prediction.max()))
    bound = float(np.abs(error).max()) or 1.0
    figure = Figure(figsize=(13.0, 4.2), constrained_layout=True)
    panels = (
        ("truth", truth, (low, high), "viridis"),
        ("prediction", prediction, (low, high), "viridis"),
        ("prediction − truth", error, (-bound, bound), "RdBu_r"),
    )
    spatial = {"projection": "3d"} if positions.shape[1] == 3 else {}
    axes = [figure.add_subplot(1, 3, 1 + number, title=panel[0], **spatial) for number, panel in enumerate(panels)]
    marks = tuple(
        _draw_points(place, positions, values[:, 0], limits, colors, field)
        for place, (_, values, limits, colors) in zip(axes, panels, strict=True)
    )
    figure.suptitle(title)
    return figure, marks


def _draw_points(
    axes: Axes,
    positions: np.ndarray,
    values: np.ndarray,
    limits: tuple[float, float],
    colors: str,
    field: str,
) -> PathCollection:
    # Areas chosen so that neighbouring points just touch: the picture reads as a field, yet shows the real points.
    size = float(np.clip(9.0e4 / len(values), 1.0, 160.0))
    # Points on a line are drawn as a graph.
    places = positions.T if positions.shape[1] > 1 else (positions[:, 0], values)
    marks = axes.scatter(*places, c=values, s=size, cmap=colors, vmin=limits[0], vmax=limits[1], linewidths=0)
    if positions.shape[1] > 1:
        axes.set_aspect("equal")
        axes.set_xticks([])
        axes.set_yticks([])
    axes.figure.colorbar(marks, ax=axes, label=field, shrink=0.9)
    return marks
