"""Draw the README's picture of FLARE: `python docs/draw_flare.py` writes docs/figures/flare.png.

The points are a unit square with a void, the weights are real softmax weights of random queries and keys, so the two
steps are shown as they act: every latent gathers from all points, every point reads from all latents.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

POINTS, LATENTS = 420, 6
LEFT, RIGHT, MIDDLE, SPREAD = 0.0, 4.4, 2.7, 0.2
INK = "#22303c"


def cloud() -> np.ndarray:
    """Return points of the unit square outside a void."""
    rng = np.random.default_rng(4)
    points = rng.random((4 * POINTS, 2))
    angle = np.arctan2(points[:, 1] - 0.5, points[:, 0] - 0.5)
    void = 0.24 + 0.04 * np.cos(3 * angle)
    return points[np.hypot(*(points - 0.5).T) > void][:POINTS]


def softmax(scores: np.ndarray, axis: int) -> np.ndarray:
    """Return exp(scores), normalised along `axis`."""
    weights = np.exp(scores - scores.max(axis, keepdims=True))
    return weights / weights.sum(axis, keepdims=True)


def draw(axes: Axes) -> None:
    """Draw both clouds, the latents between them, and the heaviest weights of each step."""
    points, colors = cloud(), plt.get_cmap("Dark2")(np.arange(LATENTS))
    centres = 0.5 + 0.38 * np.stack([np.cos(np.arange(LATENTS) * 2.1), np.sin(np.arange(LATENTS) * 2.1)], 1)
    scores = -22.0 * np.square(points[None] - centres[:, None]).sum(-1)  # [M, N]
    gather, scatter = softmax(scores, 1), softmax(scores, 0)
    heights = np.linspace(0.06, 0.94, LATENTS)
    order = np.argsort(np.argsort(centres[:, 1]))
    latents = np.stack([np.full(LATENTS, MIDDLE), heights[order]], 1)
    rng = np.random.default_rng(1)
    for m in range(LATENTS):
        for n in rng.choice(len(points), 26, p=gather[m], replace=False):
            axes.plot(
                [LEFT + points[n, 0], latents[m, 0]], [points[n, 1], latents[m, 1]], color=colors[m], lw=0.5, alpha=0.4
            )
        for n in rng.choice(len(points), 26, p=scatter[m] / scatter[m].sum(), replace=False):
            ends = [latents[m, 0], RIGHT + points[n, 0]], [latents[m, 1], points[n, 1]]
            axes.plot(*ends, color=colors[m], lw=0.5, alpha=0.4)
    mixed = scatter.T @ colors
    axes.scatter(LEFT + points[:, 0], points[:, 1], s=9, color="#8a97a3", zorder=3, linewidths=0)
    axes.scatter(RIGHT + points[:, 0], points[:, 1], s=9, color=np.clip(mixed, 0, 1), zorder=3, linewidths=0)
    axes.scatter(*latents.T, s=150, color=colors, zorder=4, edgecolors="white", linewidths=1.5)


def label(axes: Axes) -> None:
    """Write what the three columns and the two steps are."""
    text = {"ha": "center", "va": "center", "color": INK}
    axes.text(LEFT + 0.5, 1.13, "N points", fontsize=12, weight="bold", **text)
    axes.text(MIDDLE, 1.13, "M ≪ N latents", fontsize=12, weight="bold", **text)
    axes.text(RIGHT + 0.5, 1.13, "N points", fontsize=12, weight="bold", **text)
    axes.text(1.8, -0.14, "gather\n$z=\\mathrm{softmax}_N(s\\,q\\,k^\\top)\\,v$", fontsize=11, **text)
    axes.text(3.6, -0.14, "scatter\n$y=\\mathrm{softmax}_M(s\\,k\\,q^\\top)\\,z$", fontsize=11, **text)
    axes.text(LEFT + 0.5, -0.14, "keys $k$, values $v$\nfrom each point", fontsize=10, **text)
    axes.text(RIGHT + 0.5, -0.14, "every point has heard\nof every other: O(NM)", fontsize=10, **text)


def main() -> None:
    """Write the figure."""
    figure, axes = plt.subplots(figsize=(10.5, 3.6))
    draw(axes)
    label(axes)
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_xlim(-0.15, RIGHT + 1.15)
    figure.savefig(Path(__file__).parent / "figures" / "flare.png", dpi=150, bbox_inches="tight", facecolor="white")


if __name__ == "__main__":
    main()
