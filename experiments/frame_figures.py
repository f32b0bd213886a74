"""Figures of series of frames: errors against time, and animations of truth, prediction and error."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.figure import Figure

from experiments.figures import draw_panels
from runtime.files import replacing

_COLOR = "#0b6fa4"
_MOST_FRAMES = 50
_LABELS = {"rel_l2": "relative L2 error", "mse": "mean squared error", "r2": "R²"}


def error_figure(per_frame: Mapping[str, np.ndarray], times: np.ndarray, title: str) -> Figure:
    """Draw mean ± standard deviation over samples of every metric [S, T] against time."""
    figure = Figure(figsize=(4.6 * len(per_frame), 3.6), constrained_layout=True)
    panels = figure.subplots(1, len(per_frame))
    for axes, (name, values) in zip(np.atleast_1d(panels), per_frame.items(), strict=True):
        mean, spread = values.mean(axis=0), values.std(axis=0)
        axes.plot(times, mean, color=_COLOR)
        axes.fill_between(times, mean - spread, mean + spread, color=_COLOR, alpha=0.25, linewidth=0)
        axes.set_xlabel("time")
        axes.set_ylabel(_LABELS.get(name, name))
        axes.grid(alpha=0.3, linewidth=0.5)
    figure.suptitle(title)
    return figure


def save_animation(
    path: Path,
    title: str,
    positions: np.ndarray,
    truth: np.ndarray,
    prediction: np.ndarray,
    times: np.ndarray,
    field: str,
) -> None:
    """Write a GIF of truth, prediction and their difference [N, T] at points [N, 2 or 3], with fixed colour scales."""
    figure, marks = draw_panels(title, positions, truth, prediction, field)
    values = (truth, prediction, prediction - truth)
    frames = np.unique(np.linspace(0, len(times) - 1, min(len(times), _MOST_FRAMES)).round().astype(int))

    def show(frame: int) -> list:
        for mark, series in zip(marks, values, strict=True):
            mark.set_array(series[:, frame])
        figure.suptitle(f"{title}, t = {times[frame]:.4g}")
        return list(marks)

    # One layout for all frames, which would take as long as drawing them.
    show(frames[0])
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as temporary:
        FuncAnimation(figure, show, frames=frames, blit=False).save(temporary, writer=PillowWriter(fps=8), dpi=70)
