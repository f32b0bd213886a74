"""Draw the picture of FLARE++: `python docs/draw_flarepp.py` writes docs/figures/flarepp.png.

The same cloud stands there three times. The weights are real softmax weights: the first gather is nearly an average,
from which the queries of the second are made, and points read back by the weights of these.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from draw_flare import INK, LATENTS, cloud, softmax
from matplotlib.axes import Axes

FIRST, SECOND, THIRD = 0.0, 3.0, 6.0
QUERIES, VALUES = 2.0, 5.0
LINES = 22


def draw(axes: Axes) -> None:
    """Draw the clouds, both columns of latents, the heaviest weights of the three steps, and the arrow between."""
    points, colors = cloud(), plt.get_cmap("Dark2")(np.arange(LATENTS))
    angles = np.arange(LATENTS) * 2.1
    centres = 0.5 + 0.38 * np.stack([np.cos(angles), np.sin(angles)], 1)
    distances = np.square(points[None] - centres[:, None]).sum(-1)  # [M, N]
    synthesis, gather, scatter = softmax(-2 * distances, 1), softmax(-22 * distances, 1), softmax(-22 * distances, 0)
    order = np.argsort(np.argsort(centres[:, 1]))
    heights = np.linspace(0.06, 0.94, LATENTS)[order]
    queries, values = (np.stack([np.full(LATENTS, x), heights], 1) for x in (QUERIES, VALUES))
    rng = np.random.default_rng(1)
    for m in range(LATENTS):
        for weights, cloud_at, latent in (
            (synthesis[m], FIRST, queries[m]),
            (gather[m], SECOND, values[m]),
            (scatter[m] / scatter[m].sum(), THIRD, values[m]),
        ):
            for n in rng.choice(len(points), LINES, p=weights, replace=False):
                ends = [cloud_at + points[n, 0], latent[0]], [points[n, 1], latent[1]]
                axes.plot(*ends, color=colors[m], lw=0.5, alpha=0.4)
    mixed = np.clip(scatter.T @ colors, 0, 1)
    for at, color in ((FIRST, "#8a97a3"), (SECOND, "#8a97a3"), (THIRD, mixed)):
        axes.scatter(at + points[:, 0], points[:, 1], s=7, color=color, zorder=3, linewidths=0)
    axes.scatter(*queries.T, s=110, marker="D", color=colors, zorder=4, edgecolors="white", linewidths=1.5)
    axes.scatter(*values.T, s=150, color=colors, zorder=4, edgecolors="white", linewidths=1.5)
    arrow = {"arrowstyle": "-|>", "color": INK, "lw": 1.4, "connectionstyle": "arc3,rad=-0.28"}
    axes.annotate("", xy=(VALUES, 1.06), xytext=(QUERIES, 1.06), arrowprops=arrow)


def label(axes: Axes) -> None:
    """Write what the columns and the three steps are."""
    text = {"ha": "center", "va": "center", "color": INK}
    axes.text(QUERIES, -0.12, "queries $Q_d$", fontsize=10, weight="bold", **text)
    axes.text(VALUES, -0.12, "latents $z$", fontsize=10, weight="bold", **text)
    axes.text((QUERIES + VALUES) / 2, 1.58, "$Q = q_{fixed} + \\sigma(\\gamma)\\,Q_d$", fontsize=11, **text)
    axes.text(FIRST + 0.5, -0.16, "N points: keys $k_0$", fontsize=10, **text)
    axes.text(SECOND + 0.5, -0.16, "keys $k$, values $v$", fontsize=10, **text)
    axes.text(THIRD + 0.5, -0.16, "mixed points $y$", fontsize=10, **text)
    axes.text(1.25, -0.42, "synthesis\n$Q_d=\\mathrm{softmax}_N(s\\,q_0k_0^\\top)\\,v_0$", fontsize=11, **text)
    axes.text(4.2, -0.42, "gather\n$z=\\mathrm{softmax}_N(s\\,Q\\,k^\\top)\\,v$", fontsize=11, **text)
    axes.text(5.95, -0.42, "scatter\n$y=\\mathrm{softmax}_M(s\\,k\\,Q^\\top)\\,z$", fontsize=11, **text)


def main() -> None:
    """Write the figure."""
    figure, axes = plt.subplots(figsize=(11.5, 3.6))
    draw(axes)
    label(axes)
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_xlim(-0.15, THIRD + 1.15)
    axes.set_ylim(-0.6, 1.7)
    path = Path(__file__).parent / "figures" / "flarepp.png"
    figure.savefig(path, dpi=150, bbox_inches="tight", facecolor="white")


if __name__ == "__main__":
    main()
