"""Draw what mixers cost and reach: `python docs/draw_mixers.py` writes docs/figures/mixers.png from mixers.csv there.

A row is a network: test relative L2 with its deviation over seeds, parameters, steps of the training, and milliseconds
of a step that has the GPU to itself, where these were measured; `below` puts its name below its point.
"""

import csv
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

FIGURES = Path(__file__).parent / "figures"
COLORS = {"fixed": "C0", "from the input": "C3", "slices": "C2", "all points": "C7"}
PANELS = (
    ("elasticity", "seconds", "elasticity, 20 epochs", "GPU-seconds of the training"),
    ("elasticity", "parameters", "elasticity, 20 epochs", "parameters"),
    ("darcy", "seconds", "Darcy, 30 epochs, equal parameters", "GPU-seconds of the training"),
)


def main() -> None:
    """Write the figure."""
    with (FIGURES / "mixers.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["seconds"] = row["step_ms"] and int(row["steps"]) * float(row["step_ms"]) / 1e3
    figure = Figure(figsize=(12.6, 4.4), layout="constrained")
    for axes, (data, cost, title, words) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        draw(axes, [row for row in rows if row["data"] == data and row[cost]], cost)
        axes.set(xscale="log", yscale="log", xlabel=words, ylabel="test relative L2", title=title)
        axes.grid(alpha=0.3, which="both", linewidth=0.5)
        axes.margins(x=0.3, y=0.1)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
            axis.set_major_formatter(ScalarFormatter())
            axis.set_minor_formatter(NullFormatter())
    for words, color in COLORS.items():
        figure.axes[-1].scatter([], [], color=color, s=16, label=words)
    figure.axes[-1].legend(frameon=False, fontsize=8, title="queries", title_fontsize=8, loc="upper left")
    figure.savefig(FIGURES / "mixers.png", dpi=110)


def draw(axes: Axes, rows: list[dict[str, str]], cost: str) -> None:
    """Draw the networks and the line of those that none beats in both error and cost."""
    points = sorted((float(row[cost]), float(row["error"])) for row in rows)
    front = [point for i, point in enumerate(points) if all(point[1] < other[1] for other in points[:i])]
    axes.step(*zip(*front, strict=True), where="post", color="0.6", linewidth=1, linestyle="--")
    for row in rows:
        x, y, spread = float(row[cost]), float(row["error"]), float(row["deviation"])
        axes.errorbar(x, y, spread, fmt="o", markersize=4, capsize=2, color=COLORS[row["queries"]])
        place = (4, -9) if row["below"] else (4, 3)
        axes.annotate(row["model"].removeprefix("backbone_"), (x, y), place, textcoords="offset points", fontsize=7)


if __name__ == "__main__":
    main()
