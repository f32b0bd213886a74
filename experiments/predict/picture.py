"""A picture of predicted fields, with the truth and the error where the file has them."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.tri import Triangulation

from data_pipeline.custom.sample import Contents, Sample
from data_pipeline.custom.writers import as_mesh
from data_pipeline.vtk import surface_triangles
from experiments.figures import visible
from experiments.predict.errors import Fields

# Surfaces in space with more triangles take matplotlib minutes; their points are drawn instead.
_MOST_SPATIAL_TRIANGLES = 50_000
# Triangles into which a cell of a surface is cut, by its corners.
_CUTS = {"triangle": ((0, 1, 2),), "quad": ((0, 1, 2), (0, 2, 3))}


def draw_prediction(
    title: str,
    places: np.ndarray,
    triangles: np.ndarray | None,
    prediction: Fields,
    truth: Fields,
    cells: np.ndarray | None = None,
) -> Figure:
    """Draw one row per field [N, C]: the prediction, or truth, prediction and their difference; of vectors the lengths.

    `places` [N, D] are the points and `triangles` [F, 3] those between them, None for a cloud. Of fields at cells the
    `places` are the corners, and `cells` [F] says which cell a triangle is of.
    """
    known = {name: values for name, values in truth.items() if np.isfinite(values).any()}
    columns = 3 if known else 1
    figure = Figure(figsize=(4.4 * columns, 3.6 * len(prediction)), constrained_layout=True)
    spatial: dict[str, Any] = {"projection": "3d"} if places.shape[1] == 3 else {}
    for row, (name, field) in enumerate(prediction.items()):
        panels = _panels(name, field, known.get(name))
        for column, (label, values, colors, limits) in enumerate(panels):
            place = figure.add_subplot(len(prediction), columns, row * columns + column + 1, title=label, **spatial)
            options = {"cmap": colors, "vmin": limits[0], "vmax": limits[1]}
            marks = _draw(place, places, triangles, values, cells, options)
            figure.colorbar(marks, ax=place, shrink=0.9)
    figure.suptitle(title)
    return figure


def triangles_of(contents: Contents, sample: Sample, points: str) -> np.ndarray | None:
    """Return the triangles [F, 3] of a surface, or of the surface of a volume; None where there are no such cells."""
    drawn = [(kind, cells) for kind, cells in sample.cells if kind not in ("vertex", "line")]
    if contents.mesh is None and all(kind in _CUTS for kind, _ in drawn):
        parts = [cells[:, corners] for kind, cells in drawn for corners in _CUTS[kind]]
        return np.concatenate(parts) if parts else None
    triangles = surface_triangles(as_mesh(contents, points, sample.cells, sample.name))
    return triangles if len(triangles) else None


def _panels(
    name: str, prediction: np.ndarray, truth: np.ndarray | None
) -> list[tuple[str, np.ndarray, str, tuple[float, float]]]:
    shown = _length(prediction)
    label = name if prediction.shape[1] == 1 else f"|{name}|"
    if truth is None:
        return [(label, shown, "viridis", (float(shown.min()), float(shown.max())))]
    true = _length(truth)
    limits = float(min(np.nanmin(true), shown.min())), float(max(np.nanmax(true), shown.max()))
    error = shown - true if prediction.shape[1] == 1 else _length(prediction - truth)
    bound = float(np.nanmax(np.abs(error))) or 1.0
    signed = ("RdBu_r", (-bound, bound)) if prediction.shape[1] == 1 else ("magma_r", (0.0, bound))
    return [
        (f"{label}, truth", true, "viridis", limits),
        (f"{label}, prediction", shown, "viridis", limits),
        (f"{name}, error", error, *signed),
    ]


def _length(field: np.ndarray) -> np.ndarray:
    return field[:, 0] if field.shape[1] == 1 else np.linalg.norm(field, axis=1)


def _draw(
    axes: Axes,
    places: np.ndarray,
    triangles: np.ndarray | None,
    values: np.ndarray,
    cells: np.ndarray | None,
    colors: dict[str, Any],
) -> Any:
    if places.shape[1] == 1:
        return axes.scatter(places[:, 0], values, c=values, s=6, **colors)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    if triangles is not None and places.shape[1] == 2:
        mesh = Triangulation(*places.T, triangles)
        if cells is not None:
            return axes.tripcolor(mesh, facecolors=values[cells], **colors)
        return axes.tripcolor(mesh, values, shading="gouraud", **colors)
    if triangles is not None and len(triangles) <= _MOST_SPATIAL_TRIANGLES:
        surface = axes.plot_trisurf(*places.T, triangles=triangles, linewidth=0, antialiased=False, **colors)
        surface.set_array(values[triangles].mean(axis=1) if cells is None else values[cells])
        return surface
    if cells is not None:
        places, values, triangles = places[triangles].mean(axis=1), values[cells], None
    # Of a volume only points of the surface can be seen.
    chosen = visible(np.arange(len(values)) if triangles is None else np.unique(triangles))
    size = float(np.clip(6e4 / len(chosen), 0.5, 60))
    return axes.scatter(*places[chosen].T, c=values[chosen], s=size, linewidths=0, **colors)
