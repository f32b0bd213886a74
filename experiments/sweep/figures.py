"""The figures of studies: curves, heat maps and bars, with the published numbers beside ours where there are some."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from experiments.sweep.rows import WORDS, Row, number


class Drawing(Protocol):
    """A kind of figure."""

    def draw(self, title: str, rows: Sequence[Row]) -> Figure:
        """Return the figure of the rows."""


def _values(rows: Sequence[Row], column: str | None) -> list[Any]:
    """Return the different values of a column, in their order; one None without a column."""
    return list(dict.fromkeys(row.labels.get(column) for row in rows)) if column else [None]


def _ours(rows: Sequence[Row]) -> str:
    kinds = sorted({row.data for row in rows if row.data})
    return f"ours ({', '.join(kinds)})" if kinds else "ours"


PUBLISHED = "published (public data)"


@dataclass(frozen=True)
class Curves:
    """Metrics over column `x`, a line per value of `lines`, a panel per value of `panels` and metric.

    Ours are solid, with bars of a deviation over seeds; what is published is dashed. `names` words columns.
    """

    x: str
    lines: str | None = None
    panels: str | None = None
    metrics: tuple[str, ...] = ("error",)
    names: Mapping[str, str] = field(default_factory=dict)
    log_x: bool = True

    def draw(self, title: str, rows: Sequence[Row]) -> Figure:
        """Return the figure of the rows."""
        places = [(value, metric) for value in _values(rows, self.panels) for metric in self.metrics]
        figure = Figure(figsize=(1.5 + 4.2 * len(places), 4.2), layout="constrained")
        colors = self._colors(rows)
        for axes, (value, metric) in zip(figure.subplots(1, len(places), squeeze=False).flat, places, strict=True):
            inside = [row for row in rows if self.panels is None or row.labels.get(self.panels) == value]
            for line, color in colors.items():
                points = [row for row in inside if self.lines is None or row.labels.get(self.lines) == line]
                self._draw_line(axes, points, metric, color, line)
            self._finish(axes, inside, metric, value)
        figure.suptitle(title)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside right center", fontsize=8, frameon=False)
        return figure

    def _colors(self, rows: Sequence[Row]) -> dict[Any, Any]:
        lines = _values(rows, self.lines)
        return {line: colormaps["viridis"](0.9 * index / max(1, len(lines) - 1)) for index, line in enumerate(lines)}

    def _draw_line(self, axes: Axes, rows: Sequence[Row], metric: str, color: Any, line: Any) -> None:
        words = "" if self.lines is None else f"{self.names.get(self.lines, self.lines)} {line}, "
        ours = [(row.labels[self.x], row.values[metric]) for row in rows if metric in row.values]
        if ours:
            x, values = zip(*sorted(ours, key=lambda point: point[0]), strict=True)
            means, spread = [value.mean for value in values], [value.std for value in values]
            style = {"marker": "o", "markersize": 4, "capsize": 2, "color": color}
            axes.errorbar(x, means, spread, label=f"{words}{_ours(rows)}", **style)
        known = [(row.labels[self.x], row.published[metric]) for row in rows if metric in row.published]
        if known:
            x, values = zip(*sorted(known), strict=True)
            style = {"linestyle": "--", "marker": "s", "markersize": 4, "markerfacecolor": "none", "linewidth": 1}
            axes.plot(x, values, color=color, label=f"{words}{PUBLISHED}", **style)

    def _finish(self, axes: Axes, rows: Sequence[Row], metric: str, panel: Any) -> None:
        axes.set_yscale("log")
        ticks = sorted({row.labels[self.x] for row in rows})
        if self.log_x and all(tick > 0 for tick in ticks):
            axes.set_xscale("log", base=2)
        if len(ticks) <= 12:
            axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel(self.names.get(self.x, self.x))
        axes.set_ylabel(WORDS.get(metric, metric))
        axes.set_title("" if panel is None else str(panel))
        axes.grid(alpha=0.3, which="both", linewidth=0.5)


@dataclass(frozen=True)
class Profile:
    """The metrics `prefix`0, `prefix`1, … over their number `x`; lines and panels are those of `Curves`.

    Those of `beside` are dashed, in `words`. Panels without any of them are left out.
    """

    prefix: str
    lines: str
    panels: str
    names: Mapping[str, str] = field(default_factory=dict)
    x: str = "block"
    beside: str | None = None
    words: str = ""
    log: bool = False

    def draw(self, title: str, rows: Sequence[Row]) -> Figure:
        """Return the figure of the rows."""
        shown = [row for row in rows if self._points(row, self.prefix)] or rows
        values, lines = _values(shown, self.panels), _values(shown, self.lines)
        figure = Figure(figsize=(1.5 + 4.2 * len(values), 4.0), layout="constrained")
        for axes, value in zip(figure.subplots(1, len(values), squeeze=False).flat, values, strict=True):
            for row in shown:
                if row.labels.get(self.panels) == value:
                    self._draw_row(axes, row, f"C{lines.index(row.labels.get(self.lines)) % 10}")
            axes.set_xlabel(self.x)
            axes.set_ylabel(WORDS.get(self.prefix.rstrip("_"), self.prefix.rstrip("_")))
            axes.set_yscale("log" if self.log else "linear")
            axes.set_title(str(value))
            axes.grid(alpha=0.3, which="both", linewidth=0.5)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(frameon=False, fontsize=8)
        figure.suptitle(title)
        return figure

    def _points(self, row: Row, prefix: str) -> list[tuple[int, float, float]]:
        numbered = [(name.removeprefix(prefix), value) for name, value in row.values.items() if name.startswith(prefix)]
        points = [(int(number), value) for number, value in numbered if number.isdecimal()]
        return [(number, value.mean, value.std) for number, value in points if math.isfinite(value.mean)]

    def _draw_row(self, axes: Axes, row: Row, color: str) -> None:
        label = f"{self.names.get(self.lines, self.lines)} {row.labels[self.lines]}".strip()
        style = {"marker": "o", "capsize": 2, "color": color}
        if points := self._points(row, self.prefix):
            axes.errorbar(*zip(*points, strict=True), label=label, **style)
        if self.beside and (points := self._points(row, self.beside)):
            axes.errorbar(
                *zip(*points, strict=True), label=f"{label}, {self.words}", **style, linestyle="--", markersize=3
            )


@dataclass(frozen=True)
class Tradeoff:
    """The error over each of the metrics `costs`, a curve per value of `lines`."""

    lines: str
    costs: tuple[str, ...]

    def draw(self, title: str, rows: Sequence[Row]) -> Figure:
        """Return the figure of the rows."""
        figure = Figure(figsize=(2.5 + 4.2 * len(self.costs), 4.2), layout="constrained")
        panels = figure.subplots(1, len(self.costs), sharey=True, squeeze=False).flat
        for axes, cost in zip(panels, self.costs, strict=True):
            for line in _values(rows, self.lines):
                inside = [row for row in rows if row.labels.get(self.lines) == line]
                points = [(row.values[cost].mean, row.values["error"]) for row in inside if cost in row.values]
                if points:
                    x, errors = zip(*sorted(points, key=lambda point: point[0]), strict=True)
                    means, spread = [error.mean for error in errors], [error.std for error in errors]
                    axes.errorbar(x, means, spread, marker="o", markersize=4, capsize=2, label=str(line))
            axes.set(xscale="log", yscale="log", xlabel=WORDS.get(cost, cost))
            axes.grid(alpha=0.3, which="both", linewidth=0.5)
        figure.axes[0].set_ylabel(WORDS["error"])
        handles, labels = figure.axes[0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside right center", fontsize=8, frameon=False)
        figure.suptitle(title)
        return figure


@dataclass(frozen=True)
class HeatMap:
    """The first of `metrics` as colours over columns `x` and `y`, all of them as text in the cells; ours, published."""

    x: str
    y: str
    metrics: tuple[str, ...] = ("error",)
    names: Mapping[str, str] = field(default_factory=dict)

    def draw(self, title: str, rows: Sequence[Row]) -> Figure:
        """Return the figure of the rows."""
        columns, lines = sorted(_values(rows, self.x)), sorted(_values(rows, self.y))
        panels = [(_ours(rows), self._cells(rows, False)), (PUBLISHED, self._cells(rows, True))]
        panels = [(words, cells) for words, cells in panels if cells] or panels[:1]
        seen = [numbers[0] for _, cells in panels for numbers in cells.values() if numbers[0] is not None]
        norm = LogNorm(min(seen), max(seen)) if seen and min(seen) > 0 else None
        size = (1.5 + len(panels) * (1.0 + 1.3 * len(columns)), 1.8 + 0.9 * len(lines))
        figure = Figure(figsize=size, layout="constrained")
        for axes, (words, cells) in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels, strict=True):
            self._draw_cells(axes, cells, columns, lines, norm)
            axes.set_title(words, fontsize=9)
        figure.suptitle(title)
        return figure

    def _cells(self, rows: Sequence[Row], published: bool) -> dict[tuple[Any, Any], list[float | None]]:
        cells = {}
        for row in rows:
            known = row.published if published else {name: value.mean for name, value in row.values.items()}
            numbers = [known.get(metric) for metric in self.metrics]
            if any(one is not None for one in numbers):
                cells[row.labels[self.x], row.labels[self.y]] = numbers
        return cells

    def _draw_cells(self, axes: Axes, cells: Mapping[Any, Any], columns: Sequence, lines: Sequence, norm: Any) -> None:
        picture = np.full((len(lines), len(columns)), np.nan)
        for (column, line), numbers in cells.items():
            place = lines.index(line), columns.index(column)
            picture[place] = np.nan if numbers[0] is None else numbers[0]
            text = "\n".join(number(m, n) for m, n in zip(self.metrics, numbers, strict=True) if n is not None)
            axes.text(place[1], place[0], text, ha="center", va="center", fontsize=8)
        axes.imshow(picture, norm=norm, cmap="YlOrRd", aspect="auto", alpha=0.8)
        axes.set_xticks(range(len(columns)), [str(value) for value in columns])
        axes.set_yticks(range(len(lines)), [str(value) for value in lines])
        axes.set_xlabel(self.names.get(self.x, self.x))
        axes.set_ylabel(self.names.get(self.y, self.y))


@dataclass(frozen=True)
class Bars:
    """A metric as bars: a panel per value of `panels`, a bar per value of `bars`; an outline is what is published.

    The smallest come first; what has neither a value nor a published one has no place.
    """

    bars: str
    panels: str | None = None
    metric: str = "error"
    names: Mapping[str, str] = field(default_factory=dict)
    log: bool = True

    def draw(self, title: str, rows: Sequence[Row]) -> Figure:
        """Return the figure of the rows."""
        rows = [row for row in rows if self.metric in row.values or self.metric in row.published]
        values = _values(rows, self.panels) or [None]
        across = min(3, len(values))
        down = -(-len(values) // across)
        width = max(4.6, 1.2 + 0.3 * len(_values(rows, self.bars)))
        figure = Figure(figsize=(width * across, 0.8 + 3.4 * down), layout="constrained")
        panels = list(figure.subplots(down, across, squeeze=False).flat)
        for axes, value in zip(panels, values, strict=False):
            inside = [row for row in rows if self.panels is None or row.labels.get(self.panels) == value]
            self._draw_panel(axes, inside)
            axes.set_title("" if value is None else str(value))
        for axes in panels[len(values) :]:
            axes.set_axis_off()
        handles, labels = panels[0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
        figure.suptitle(title)
        return figure

    def _size(self, row: Row) -> tuple[bool, float]:
        ours = row.values.get(self.metric)
        return (ours is None, row.published[self.metric]) if ours is None else (False, ours.mean)

    def _draw_panel(self, axes: Axes, rows: Sequence[Row]) -> None:
        rows = sorted(rows, key=self._size)
        names = [str(name) for name in _values(rows, self.bars)]
        places = {name: index for index, name in enumerate(names)}
        ours = [
            (places[str(row.labels[self.bars])], row.values[self.metric]) for row in rows if self.metric in row.values
        ]
        if ours:
            x, values = zip(*ours, strict=True)
            means, spread = [value.mean for value in values], [value.std for value in values]
            axes.bar(x, means, 0.6, yerr=spread, capsize=2, color="#0b6fa4", label=_ours(rows))
        known = [
            (places[str(row.labels[self.bars])], row.published[self.metric])
            for row in rows
            if self.metric in row.published
        ]
        if known:
            x, values = zip(*known, strict=True)
            axes.bar(x, values, 0.8, fill=False, edgecolor="#d1662a", linestyle="--", label=PUBLISHED)
        axes.set_yscale("log" if self.log else "linear")
        axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=8)
        axes.set_ylabel(WORDS.get(self.metric, self.metric))
        axes.grid(alpha=0.3, axis="y", which="both", linewidth=0.5)
