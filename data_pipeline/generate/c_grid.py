"""The C-grid around an airfoil: from the far wake forwards below the section, around its nose and back above.

Index i runs along the C and j outwards. At j = 0 the first and the last nodes are the two sides of the wake cut and lie
on the same points; between them are the nodes of the section, from the trailing edge along the lower side.
"""

import numpy as np
from jaxtyping import Float64
from scipy.optimize import brentq

RADIUS, CHORD_END, WAKE_END = 40.0, 1.0, 40.0
_THICKNESS = (0.2969, -0.1260, -0.3516, 0.2843, -0.1036)
_CONTROL_X, _CONTROL_Y = (-0.25, 0.25, 0.75, 1.25), (-0.1, 0.1)
# Spacing on the section at nose and trailing edge, as a share of the mean spacing.
_END_SPACING = 0.3
_GROWTH, _CELLS = 1.02, 50


def section(side: Float64[np.ndarray, "N"], displacements: Float64[np.ndarray, "2 4"]) -> Float64[np.ndarray, "N 2"]:
    """Return points of a deformed NACA 0012 section at positions -1 (lower trailing edge) through 0 (nose) to 1.

    The section moves upwards by the cubic (along x) and linear (along y) interpolation of `displacements` at the
    control nodes x = -0.25, 0.25, 0.75, 1.25 and y = -0.1, 0.1.
    """
    x = _along(np.abs(side))
    root = np.sqrt(x)
    y = np.sign(side) * 0.6 * (_THICKNESS[0] * root + x * np.polyval(_THICKNESS[:0:-1], x))
    cubic = np.ones((len(_CONTROL_X), x.size))
    for a, at in enumerate(_CONTROL_X):
        for other in (*_CONTROL_X[:a], *_CONTROL_X[a + 1 :]):
            cubic[a] *= (x - other) / (at - other)
    upper = (y - _CONTROL_Y[0]) / (_CONTROL_Y[1] - _CONTROL_Y[0])
    shift = (1.0 - upper) * (displacements[0] @ cubic) + upper * (displacements[1] @ cubic)
    return np.stack([x, y + shift], axis=-1)


def c_grid(displacements: Float64[np.ndarray, "2 4"], cells: int) -> Float64[np.ndarray, "N M 2"]:
    """Return the nodes of the grid with `cells` cells outwards and along each side of the wake, 12/5 of it around.

    Raises ValueError when `cells` is not a positive multiple of 5.
    """
    if cells < 5 or cells % 5:
        raise ValueError(f"cells must be a positive multiple of 5, got {cells}")
    around = 12 * cells // 5
    profile = section(np.linspace(-1.0, 1.0, around + 1), displacements)
    profile[-1] = profile[0]  # the trailing edge is sharp up to rounding
    first = np.linalg.norm(profile[-1] - profile[-2])
    length = WAKE_END - CHORD_END
    downstream = CHORD_END + length * _geometric(first / length, cells)
    wake = np.stack([downstream, np.full(cells + 1, profile[0, 1])], axis=-1)
    inner = np.concatenate([wake[:0:-1], profile, wake[1:]])
    angles = np.linspace(1.5 * np.pi, 0.5 * np.pi, around + 1)
    arc = np.stack([CHORD_END + RADIUS * np.cos(angles), RADIUS * np.sin(angles)], axis=-1)
    far = np.stack([downstream[1:], np.full(cells, RADIUS)], axis=-1)
    outer = np.concatenate([far[::-1] * [1.0, -1.0], arc, far])
    blend = _outwards(cells, around)[:, None]
    return inner[:, None] * (1.0 - blend) + outer[:, None] * blend


def _along(share: np.ndarray) -> np.ndarray:
    """Return the x of points at a share of the number of cells from nose to trailing edge, closer at both ends.

    Near the nose x goes with the square of the arc length, as on a parabola.
    """
    stretched = _END_SPACING * share + (1.0 - _END_SPACING) * 0.5 * (1.0 - np.cos(np.pi * share))
    nose = 0.02
    return (np.sqrt(stretched**2 + nose**2) - nose) / (np.sqrt(1.0 + nose**2) - nose)


def _geometric(first: float, cells: int) -> np.ndarray:
    """Return cells + 1 positions from 0 to 1 in geometric progression, the first step `first`."""
    if first * cells >= 1.0:
        return np.linspace(0.0, 1.0, cells + 1)
    ratio = brentq(lambda r: first * (r**cells - 1.0) / (r - 1.0) - 1.0, 1.0 + 1e-9, 10.0)
    return (ratio ** np.arange(cells + 1) - 1.0) / (ratio**cells - 1.0)


def _outwards(cells: int, around: int) -> np.ndarray:
    """Return the blend of inner and outer curve: first step 2 / around / 40, slow growth, then fast to the end.

    The growth of 1.02 per cell over the first three quarters belongs to 50 cells; coarser grids grow as much in all.
    """
    slow = 3 * cells // 4
    growth = _GROWTH ** (_CELLS / cells)
    steps = 2.0 / around / RADIUS * growth ** np.arange(slow)
    begin, rest = steps.sum(), cells - slow
    ratio = brentq(lambda r: begin + steps[-1] * (r ** np.arange(1, rest + 1)).sum() - 1.0, 1.0, 1e3)
    steps = np.concatenate([steps, steps[-1] * ratio ** np.arange(1, rest + 1)])
    return np.concatenate([[0.0], np.cumsum(steps)])
