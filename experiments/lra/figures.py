"""Figures of a sequence run: learning curves, the confusion matrix, accuracy by length."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.figures import draw_optimization
from experiments.training.records import curve

_TRAIN, _EMA, _RAW, _BASELINE = "#8a8f98", "#0b6fa4", "#d1662a", "#444444"
# Above this many classes the counts in the cells could not be read.
_MOST_WRITTEN = 12


def learning_curves(log: Sequence[Mapping[str, Any]], split: str, metric: str, majority: float) -> Figure:
    """Draw losses and accuracy on `split` against the epoch, with that of the commonest class, and beside them the
    norm of the gradient and the learning rate.
    """
    figure = Figure(figsize=(19.0, 4.0), constrained_layout=True)
    losses, accuracies, gradient, rate = figure.subplots(1, 4)
    draw_optimization(gradient, rate, log)
    # The mark shows a run of a single chunk too.
    losses.plot(*curve(log, "train", "loss"), ".-", color=_TRAIN, label="training")
    for weights, color, style in (("ema", _EMA, "o-"), ("raw", _RAW, "s--")):
        for axes, name in ((losses, "loss"), (accuracies, metric)):
            epochs, values = curve(log, "eval", f"{split}/{name}_{weights}")
            if epochs:
                label = f"{split}, {weights} weights"
                axes.plot(epochs, values, style, color=color, markersize=4, label=label)
    accuracies.axhline(majority, color=_BASELINE, linestyle=":", label="always the commonest class")
    accuracies.set_ylim(0, 1)
    for axes, name in ((losses, "cross-entropy"), (accuracies, metric.replace("_", " "))):
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3, linewidth=0.5)
        axes.legend(frameon=False)
    return figure


def confusion_figure(counts: np.ndarray, names: Sequence[str], title: str) -> Figure:
    """Draw the shares of each class (rows) that are predicted as each class; counts [K, K]."""
    classes = len(counts)
    side = 3.0 + 0.45 * min(classes, 20)
    figure = Figure(figsize=(side + 1.0, side), constrained_layout=True)
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    picture = axes.imshow(shares, vmin=0.0, vmax=1.0, cmap="Blues")
    if classes <= _MOST_WRITTEN:
        for row, column in np.ndindex(classes, classes):
            dark = shares[row, column] > 0.5
            axes.text(
                column, row, f"{shares[row, column]:.2f}", ha="center", va="center", size=8,
                color="white" if dark else "black",
            )  # fmt: skip
        labels = list(names) or [str(number) for number in range(classes)]
        axes.set_xticks(range(classes), labels, rotation=45, ha="right")
        axes.set_yticks(range(classes), labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title)
    figure.colorbar(picture, ax=axes, label="share of the true class", shrink=0.9)
    return figure


def length_figure(rows: Mapping[str, Sequence[Mapping[str, float]]], metric: str) -> Figure:
    """Draw the accuracy against the length of the samples, a line for each split."""
    figure = Figure(figsize=(6.4, 4.0), constrained_layout=True)
    axes = figure.subplots()
    for split, ranges in rows.items():
        middles = [(row["first"] + row["last"]) / 2 for row in ranges]
        axes.plot(middles, [row[metric] for row in ranges], "o-", markersize=4, label=split)
    axes.set_xlabel("tokens")
    axes.set_ylabel(metric.replace("_", " "))
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.3, linewidth=0.5)
    axes.legend(frameon=False)
    return figure
