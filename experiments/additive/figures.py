"""Figures of runs on printed parts: box plots of R², errors step by step, the worst parts and the median one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

_COLOR, _LINE = "#0b6fa4", "#444444"
# The faces of a hexahedron, and those of them that are seen in this view: to +x, to −y, upwards.
_FACES = np.array([(0, 3, 7, 4), (1, 2, 6, 5), (0, 1, 5, 4), (3, 2, 6, 7), (0, 1, 2, 3), (4, 5, 6, 7)])
_SEEN, _ELEVATION, _AZIMUTH = [1, 2, 5], 30, -60
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


@dataclass(frozen=True)
class DrawnPart:
    """A part and one of its fields, true and predicted, at its nodes [N] in mm."""

    title: str
    points: Float[np.ndarray, "N 3"]
    elements: Int[np.ndarray, "M 8"]
    truth: Float[np.ndarray, " N"]
    prediction: Float[np.ndarray, " N"]


def parts_figure(parts: Sequence[DrawnPart], field: str) -> Figure:
    """Draw truth, prediction and their difference on the surface of several parts, a row for each.

    Truth and prediction have one scale of colours in a row: some parts move a hundred times as far as others.
    """
    figure = Figure(figsize=(10.0, 2.7 * len(parts)), constrained_layout=True)
    for row, part in enumerate(parts):
        error = part.prediction - part.truth
        both = np.concatenate([part.truth, part.prediction])
        limits, bound = (float(both.min()), float(both.max())), float(np.abs(error).max()) or 1.0
        panels = (
            ("truth", part.truth, limits, "coolwarm"),
            ("prediction", part.prediction, limits, "coolwarm"),
            ("prediction − truth", error, (-bound, bound), "RdBu_r"),
        )
        faces = _seen_faces(part.elements)
        for column, (name, values, (low, high), colors) in enumerate(panels):
            axes = figure.add_subplot(len(parts), 3, 3 * row + column + 1, projection="3d")
            shown = ScalarMappable(Normalize(low, high), colors)
            colored = shown.to_rgba(values[faces].mean(axis=1))
            axes.add_collection3d(Poly3DCollection(part.points[faces], facecolors=colored, edgecolors=colored))
            corners = part.points.min(axis=0), part.points.max(axis=0)
            axes.set(**{f"{axis}lim": side for axis, side in zip("xyz", zip(*corners, strict=True), strict=True)})
            axes.set_box_aspect(np.maximum(corners[1] - corners[0], 1e-9))
            axes.view_init(elev=_ELEVATION, azim=_AZIMUTH)
            axes.set_axis_off()
            axes.set_title(f"{part.title}\n{name}" if column == 0 else name, fontsize=8)
            figure.colorbar(shown, ax=axes, label=field, shrink=0.7)
    return figure


def _seen_faces(elements: Int[np.ndarray, "M 8"]) -> Int[np.ndarray, "F 4"]:
    """Return the faces that no two elements share, those that face the viewer.

    Faces between larger and smaller elements are among them; they are hidden in the part.
    """
    faces = np.asarray(elements)[:, _FACES]
    _, number, count = np.unique(np.sort(faces.reshape(-1, 4), axis=1), axis=0, return_inverse=True, return_counts=True)
    alone = (count[number.ravel()] == 1).reshape(faces.shape[:2])
    return faces[:, _SEEN][alone[:, _SEEN]]
