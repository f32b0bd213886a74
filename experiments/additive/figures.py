"""Figures of runs on printed parts: box plots of R², errors step by step, the worst parts."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.figures import visible

_COLOR, _LINE = "#0b6fa4", "#444444"
_SPLITS = {"train": "Training", "test": "Testing"}


def box_plot(r2: Mapping[str, np.ndarray]) -> Figure:
    """Draw the distribution over parts of R² [S] of every split; values below −1 are at the edge."""
    figure = Figure(figsize=(1.8 + 1.6 * len(r2), 4.0), constrained_layout=True)
    axes = figure.subplots()
    values = [np.clip(one[np.isfinite(one)], -1, 1) for one in r2.values()]
    labels = [f"{_SPLITS.get(split, split)}, N={len(one)}" for split, one in r2.items()]
    axes.boxplot(values, tick_labels=labels, medianprops={"color": _COLOR, "linewidth": 2})
    axes.axhline(0, color=_LINE, linestyle=":", linewidth=1)
    axes.set_ylim(-1.02, 1.02)
    axes.set_ylabel("R²")
    return figure


def step_figure(values: np.ndarray, label: str, limits: tuple[float, float], title: str) -> Figure:
    """Draw the median over parts, and the middle half of them, of values [S, T] against the step, NaN being none."""
    shown = np.flatnonzero(np.isfinite(values).any(axis=0))
    columns = [column[np.isfinite(column)] for column in values[:, shown].T]
    low, median, high = (np.array([np.quantile(column, q) for column in columns]) for q in (0.25, 0.5, 0.75))
    figure = Figure(figsize=(5.2, 3.6), constrained_layout=True)
    axes = figure.subplots()
    axes.plot(shown, median, color=_COLOR, label="median")
    axes.fill_between(shown, low, high, color=_COLOR, alpha=0.25, linewidth=0, label="middle half of the parts")
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.set_ylim(limits)
    axes.set_title(title)
    axes.grid(alpha=0.3, linewidth=0.5)
    axes.legend(frameon=False)
    return figure


def parts_figure(
    titles: Sequence[str],
    places: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    predictions: Sequence[np.ndarray],
    field: str,
) -> Figure:
    """Draw truth, prediction and their difference of several parts in rows, with common colour scales.

    `places` are nodes [N, 3], the others fields [N] of each part.
    """
    low = min(float(min(t.min(), p.min())) for t, p in zip(truths, predictions, strict=True))
    high = max(float(max(t.max(), p.max())) for t, p in zip(truths, predictions, strict=True))
    worst = max(float(np.abs(p - t).max()) for t, p in zip(truths, predictions, strict=True)) or 1.0
    figure = Figure(figsize=(11.0, 3.2 * len(titles)), constrained_layout=True)
    for row, (title, place, truth, prediction) in enumerate(zip(titles, places, truths, predictions, strict=True)):
        chosen = visible(np.arange(len(truth)))
        panels = (
            ("truth", truth, (low, high), "coolwarm"),
            ("prediction", prediction, (low, high), "coolwarm"),
            ("prediction − truth", prediction - truth, (-worst, worst), "RdBu_r"),
        )
        for column, (name, values, limits, colors) in enumerate(panels):
            axes = figure.add_subplot(len(titles), 3, 3 * row + column + 1, projection="3d")
            marks = axes.scatter(
                *place[chosen].T, c=values[chosen], s=4, cmap=colors, vmin=limits[0], vmax=limits[1], linewidths=0
            )
            axes.set_aspect("equal")
            axes.set_axis_off()
            axes.set_title(f"{title}\n{name}" if column == 0 else name, fontsize=8)
            figure.colorbar(marks, ax=axes, label=field, shrink=0.7)
    return figure
