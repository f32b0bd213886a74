"""The unit cell of the elasticity data: a random void in the unit square, and the O-grid between the two.

A point is addressed by ``turn``, the fraction of a turn counted anticlockwise from the top right corner (so the corners
are 0, 1/4, 1/2 and 3/4), and ``depth``, 0 on the void and 1 on the square. Both are joined by straight rays from the
centre, so the mesh is valid for every void that is star-shaped and inside the square, and its rays meet the corners.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int
from skfem import MeshQuad, MeshQuad2

Radius = Callable[[np.ndarray], np.ndarray]

MODES = 5
COEFFICIENTS = 2 * MODES
# Gaussian field 4² (-d²/dφ² + 3²)^-1 on the circle and the bounds of the radius (Geo-FNO, arXiv 2207.05209).
_AMPLITUDE, _INVERSE_LENGTH = 4.0, 3.0
_SMALLEST, _SPREAD = 0.2, 0.2
_CENTRE = 0.5


def void_radius(coefficients: Float64[np.ndarray, "10"], angles: Float64[np.ndarray, "N"]) -> Float64[np.ndarray, "N"]:
    """Return the void's radius r = 0.2 + 0.2 / (1 + exp(g)) at angles in radians from the x axis.

    `coefficients` are independent standard normal numbers (cos 1, sin 1, cos 2, ..., sin 5). They weight the
    eigenfunctions cos(kφ)/√π and sin(kφ)/√π, of unit norm on the circle, of the covariance 16 (k² + 9)^-1. The field g
    then has standard deviation 1.24, so that the radius fills (0.2, 0.4) without piling up at its ends.
    """
    modes = np.arange(1, MODES + 1)
    scales = _AMPLITUDE / np.sqrt(np.pi * (modes**2 + _INVERSE_LENGTH**2))
    phases = np.outer(modes, angles)
    field = (scales * coefficients[0::2]) @ np.cos(phases) + (scales * coefficients[1::2]) @ np.sin(phases)
    return _SMALLEST + _SPREAD / (1.0 + np.exp(field))


def place(
    turn: Float64[np.ndarray, "N"], depth: Float64[np.ndarray, "N"], radius: Radius
) -> Float64[np.ndarray, "2 N"]:
    """Return the x and y coordinates of points of the cell whose void has the outline `radius(angles)`."""
    angles = np.pi / 4.0 + 2.0 * np.pi * turn
    directions = np.array([np.cos(angles), np.sin(angles)])
    square = 0.5 / np.abs(directions).max(axis=0)
    distance = (1.0 - depth) * radius(angles) + depth * square
    return np.clip(_CENTRE + distance * directions, 0.0, 1.0)


@dataclass(frozen=True)
class OGrid:
    """Biquadratic O-grid around a void; the topology is built once and bent to each void.

    `turn_lines` and `depth_lines` bound the elements, `turn` and `depth` address the nodes of `mesh`.
    """

    turn_lines: Float64[np.ndarray, "T"]
    depth_lines: Float64[np.ndarray, "D"]
    turn: Float64[np.ndarray, "N"]
    depth: Float64[np.ndarray, "N"]
    mesh: MeshQuad2

    def bend(self, radius: Radius) -> MeshQuad2:
        """Return the mesh of the cell whose void has the outline `radius(angles)`; all nodes lie on it exactly."""
        return dataclasses.replace(self.mesh, doflocs=place(self.turn, self.depth, radius))

    def side_nodes(self, side: int) -> Int[np.ndarray, "N"]:
        """Return the nodes on one side of the square, ends included: 0 top, 1 left, 2 bottom, 3 right."""
        offset = (self.turn - side / 4.0) % 1.0
        return np.flatnonzero((self.depth == 1.0) & (offset <= 0.25))

    def side_facets(self, side: int) -> Int[np.ndarray, "N"]:
        """Return the edges on one side of the square, counted as in `side_nodes`."""
        middles = len(self.turn_lines) * len(self.depth_lines) + np.arange(self.mesh.facets.shape[1])
        offset = (self.turn[middles] - side / 4.0) % 1.0
        return np.flatnonzero((self.depth[middles] == 1.0) & (offset < 0.25))

    def locate(
        self, turn: Float64[np.ndarray, "N"], depth: Float64[np.ndarray, "N"]
    ) -> tuple[Int[np.ndarray, "N"], Float64[np.ndarray, "2 N"]]:
        """Return the element of each point and its local coordinates (outwards, anticlockwise) in the unit square."""
        around, across = np.append(self.turn_lines, 1.0), self.depth_lines
        column = np.clip(np.searchsorted(around, turn, side="right") - 1, 0, around.size - 2)
        row = np.clip(np.searchsorted(across, depth, side="right") - 1, 0, across.size - 2)
        local = np.array(
            [
                (depth - across[row]) / (across[row + 1] - across[row]),
                (turn - around[column]) / (around[column + 1] - around[column]),
            ]
        )
        return column * (across.size - 1) + row, local


def o_grid(turn_lines: Float64[np.ndarray, "T"], depth_lines: Float64[np.ndarray, "D"]) -> OGrid:
    """Build the O-grid with element boundaries on the given rays (from 0, below 1) and rings (from 0 to 1)."""
    around, rings = len(turn_lines), len(depth_lines)
    column, row = (index.ravel() for index in np.mgrid[0:around, 0:rings])
    cell_column, cell_row = (index.ravel() for index in np.mgrid[0:around, 0 : rings - 1])

    def vertex(i: np.ndarray, j: np.ndarray) -> np.ndarray:
        return (i % around) * rings + j

    corners = [(0, 0), (0, 1), (1, 1), (1, 0)]
    cells = np.array([vertex(cell_column + i, cell_row + j) for i, j in corners])
    closed = np.append(turn_lines, 1.0)
    linear = MeshQuad(place(turn_lines[column], depth_lines[row], lambda angles: np.full(angles.shape, 0.25)), cells)
    first, second = linear.facets
    # An edge between the last ray and ray 0 has its middle behind the last ray.
    seam = np.abs(column[first] - column[second]) > 1
    facet_column = np.where(seam, around - 0.5, (column[first] + column[second]) / 2.0)
    facet_row = (row[first] + row[second]) / 2.0
    turn = np.interp(np.concatenate([column, facet_column, cell_column + 0.5]), np.arange(around + 1), closed)
    depth = np.interp(np.concatenate([row, facet_row, cell_row + 0.5]), np.arange(rings), depth_lines)
    return OGrid(turn_lines, depth_lines, turn, depth, MeshQuad2.from_mesh(linear))


def graded_grid(rays: int, rings: int, halvings: int) -> OGrid:
    """Build the O-grid of the data set: finer at the void and, by repeated halving, at the two clamped corners.

    Arguments: `rays`, a multiple of 4 so that rays meet the corners; `rings`, layers of elements; `halvings`, how often
    the elements at the ends of the bottom side are halved. The stress is singular there and concentrated at the void.
    Raises ValueError when `rays` is not a positive multiple of 4 or `rings` is not positive.
    """
    if rays < 4 or rays % 4:
        raise ValueError(f"rays must be a positive multiple of 4 so that rays meet the corners, got {rays}")
    if rings < 1:
        raise ValueError(f"rings must be at least 1, got {rings}")
    steps = 0.5 ** np.arange(1, halvings + 1)
    turns = [np.arange(rays) / rays]
    for corner in (0.5, 0.75):
        turns += [corner - steps / rays, corner + steps / rays]
    depths = (np.arange(rings + 1) / rings) ** 1.4
    return o_grid(np.sort(np.concatenate(turns)), np.sort(np.concatenate([depths, 1.0 - steps * (1.0 - depths[-2])])))


def gauss_points(columns: int, rows: int) -> tuple[Float64[np.ndarray, "N"], Float64[np.ndarray, "N"]]:
    """Return turn and depth of the 3 x 3 Gauss points of every cell of a uniform O-grid of `columns` x `rows` cells.

    The points are ordered by turn, then by depth, and lie strictly inside the cell.
    """
    within = 0.5 + np.array([-1.0, 0.0, 1.0]) * np.sqrt(0.15)
    turn, depth = (((np.arange(count)[:, None] + within) / count).ravel() for count in (columns, rows))
    return np.repeat(turn, depth.size), np.tile(depth, turn.size)
