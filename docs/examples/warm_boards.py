"""Fields at cells as a finite-volume program would leave them: `python warm_boards.py --out=DIR`.

Circuit boards of 120 mm x 80 mm with three chips, cooled by air on both sides: steady heat conduction, solved here by
finite volumes on rectangles of different sizes. One .vtr file per board with the temperature `T` in °C, the power `q`
in W/m² and the in-plane conductance `kt` in W/K at the cells, and the heat transfer coefficient `h` in W/(m² K) as
field data. Needs pyvista.
"""

import argparse
from pathlib import Path

import numpy as np
import pyvista as pv
from scipy.sparse import coo_array
from scipy.sparse.linalg import spsolve

LENGTH, WIDTH, AMBIENT = 0.12, 0.08, 25.0


def lines(rng: np.random.Generator, length: float, count: int) -> np.ndarray:
    """Return the grid lines of `count` cells of different sizes."""
    sizes = rng.uniform(0.7, 1.3, count)
    return length * np.concatenate([[0.0], np.cumsum(sizes) / sizes.sum()])


def temperature(x: np.ndarray, y: np.ndarray, kt: np.ndarray, q: np.ndarray, h: float) -> np.ndarray:
    """Return the temperature [Y, X] at cells between grid lines: conduction in the plane, air at both faces."""
    dx, dy = np.diff(x), np.diff(y)
    number = np.arange(kt.size).reshape(kt.shape)
    # Two half cells in series conduct from centre to centre.
    across = 2 * dy[:, None] / (dx[:-1] / kt[:, :-1] + dx[1:] / kt[:, 1:])
    upwards = 2 * dx / (dy[:-1, None] / kt[:-1] + dy[1:, None] / kt[1:])
    first = np.concatenate([number[:, :-1].ravel(), number[:-1].ravel()])
    second = np.concatenate([number[:, 1:].ravel(), number[1:].ravel()])
    flow = np.concatenate([across.ravel(), upwards.ravel()])
    areas = np.outer(dy, dx).ravel()
    diagonal = 2 * h * areas + np.bincount(first, flow, kt.size) + np.bincount(second, flow, kt.size)
    every = number.ravel()
    rows, columns = np.concatenate([every, first, second]), np.concatenate([every, second, first])
    matrix = coo_array((np.concatenate([diagonal, -flow, -flow]), (rows, columns))).tocsr()
    return AMBIENT + spsolve(matrix, areas * q.ravel()).reshape(kt.shape)


def board(number: int) -> pv.RectilinearGrid:
    """Return one board with its fields; coordinates in m."""
    rng = np.random.default_rng((3, number))
    x, y = lines(rng, LENGTH, int(rng.integers(24, 33))), lines(rng, WIDTH, int(rng.integers(16, 25)))
    centres = np.meshgrid((x[1:] + x[:-1]) / 2, (y[1:] + y[:-1]) / 2)
    kt, q = np.full(centres[0].shape, 0.02), np.zeros(centres[0].shape)
    for _ in range(3):
        corner, size = rng.uniform([0.01, 0.01], [0.085, 0.045]), rng.uniform(0.015, 0.025, 2)
        chip = np.all([(at > low) & (at < low + side) for at, low, side in zip(centres, corner, size, strict=True)], 0)
        kt[chip], q[chip] = 0.2, rng.uniform(2e3, 8e3)
    h = rng.uniform(10.0, 40.0)
    grid = pv.RectilinearGrid(x, y, [0.0])
    for name, values in {"T": temperature(x, y, kt, q, h), "q": q, "kt": kt}.items():
        grid.cell_data[name] = values.ravel()
    grid.field_data["h"] = [h]
    return grid


def main() -> None:
    """Write the boards into one folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--num", type=int, default=100)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for number in range(options.num):
        board(number).save(options.out / f"board_{number:03d}.vtr")


if __name__ == "__main__":
    main()
