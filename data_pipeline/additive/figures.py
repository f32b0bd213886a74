"""Figures of the statistics of a set of parts: densities of every number, clipped to the range of the data."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import gaussian_kde

_GRID = {
    "num_vertices": "number of vertices",
    "num_edges": "number of edges",
    "edges_per_vert": "edges per vertex",
    "avg_aspect_ratio": "mean aspect ratio",
    "max_aspect_ratio": "largest aspect ratio",
    "max_z": "height (mm)",
    "max_disp": "largest z-displacement (mm)",
    "max_vmstr": "largest von Mises stress (MPa)",
}
_ROW = {
    "num_vertices": "# vertices",
    "num_edges": "# edges",
    "max_aspect_ratio": "max. aspect ratio",
    "max_disp": "max z displacement (mm)",
}


def densities(table: Mapping[str, np.ndarray]) -> Figure:
    """Return a figure of 3 x 3 places with the density of every statistic."""
    figure = Figure(figsize=(12, 9), layout="constrained")
    axes = figure.subplots(3, 3).ravel()
    for place, (name, title) in zip(axes, _GRID.items(), strict=False):
        _draw(place, table[name])
        place.set_title(f"PDF of {title}")
        place.set_yticks([])
    for place in axes[len(_GRID) :]:
        place.set_axis_off()
    return figure


def density_row(table: Mapping[str, np.ndarray]) -> Figure:
    """Return a figure of one row with the four densities that the paper shows."""
    figure = Figure(figsize=(14, 3), layout="constrained")
    for place, (name, label) in zip(figure.subplots(1, len(_ROW)), _ROW.items(), strict=True):
        _draw(place, table[name])
        place.set_xlabel(label)
        place.set_yticks([])
    figure.axes[0].set_ylabel("Density")
    return figure


def _draw(place: Axes, values: np.ndarray) -> None:
    """Draw the density of numbers; of equal ones, which have none, a line where they are."""
    low, high = float(values.min()), float(values.max())
    if len(values) < 2 or high - low <= 1e-9 * max(abs(low), abs(high)):
        place.axvline(low)
        return
    grid = np.linspace(low, high, 300)
    curve = gaussian_kde(values)(grid)
    place.plot(grid, curve)
    place.fill_between(grid, curve, alpha=0.3)
    place.set_ylim(bottom=0)
