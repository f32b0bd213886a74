"""Linear elasticity on equal cubic elements with an inherent strain, the usual shortcut for distortion by printing.

The strain that every element would take on by itself, were it not for its neighbours, drives the displacement; the
lower side is clamped. All elements have the same stiffness, so that one matrix is all there is to compute.
"""

from functools import cache
from itertools import product

import numpy as np
import scipy.sparse as sparse
from jaxtyping import Bool, Float64, Int
from scipy.sparse.linalg import LinearOperator, cg

# Corners of an element in the order of VTK's hexahedron, in units of its size.
CORNERS = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]])
_RESIDUAL, _ITERATIONS = 1e-8, 5000


def mesh(filled: Bool[np.ndarray, "H D T"]) -> tuple[Int[np.ndarray, "N 3"], Int[np.ndarray, "M 8"]]:
    """Return the lattice positions of the nodes and the elements of all filled cells of a lattice."""
    cells = np.argwhere(filled)
    corners = (cells[:, None] + CORNERS).reshape(-1, 3)
    nodes, number = np.unique(corners, axis=0, return_inverse=True)
    return nodes, number.reshape(-1, 8)


def edges(elements: Int[np.ndarray, "M 8"]) -> Int[np.ndarray, "2 N"]:
    """Return the edges between the nodes, each once in both directions."""
    pairs = [(a, b) for a, b in product(range(8), repeat=2) if a < b and np.abs(CORNERS[a] - CORNERS[b]).sum() == 1]
    ends = np.concatenate([elements[:, pair] for pair in pairs])
    once = np.unique(np.sort(ends, axis=1), axis=0)
    return np.concatenate([once, once[:, ::-1]]).T


def elasticity_matrix(young: float, poisson: float) -> Float64[np.ndarray, "6 6"]:
    """Return the matrix from strains (xx, yy, zz, yz, xz, xy; shears doubled) to stresses."""
    first = young * poisson / ((1.0 + poisson) * (1.0 - 2.0 * poisson))
    shear = young / (2.0 * (1.0 + poisson))
    matrix = np.diag([2.0 * shear] * 3 + [shear] * 3)
    matrix[:3, :3] += first
    return matrix


def strain_matrix(place: tuple[float, float, float], size: float) -> Float64[np.ndarray, "6 24"]:
    """Return the matrix from an element's displacements (x, y, z of each corner) to the strains at a local place."""
    factors = np.where(CORNERS == 1, place, 1.0 - np.array(place))
    signs = 2.0 * CORNERS - 1.0
    gradient = np.stack([signs[:, d] * np.delete(factors, d, axis=1).prod(axis=1) / size for d in range(3)])
    matrix = np.zeros((6, 8, 3))
    for d in range(3):
        matrix[d, :, d] = gradient[d]
    for row, (a, b) in enumerate(((1, 2), (0, 2), (0, 1)), start=3):
        matrix[row, :, a], matrix[row, :, b] = gradient[b], gradient[a]
    return matrix.reshape(6, 24)


def displacement(
    nodes: Int[np.ndarray, "N 3"],
    elements: Int[np.ndarray, "M 8"],
    size: float,
    material: Float64[np.ndarray, "6 6"],
    inherent: Float64[np.ndarray, "6"],
) -> Float64[np.ndarray, "N 3"]:
    """Return the displacements of the nodes; those at lattice height 0 are held.

    Arguments: `size` of the cubes; `material`, an `elasticity_matrix`; `inherent` strain, as there.
    Raises ArithmeticError when the solver does not converge.
    """
    stiffness, load = _element(size, material, inherent)
    unknowns = (3 * elements[:, :, None] + np.arange(3)).reshape(-1, 24)
    rows, columns = np.repeat(unknowns, 24, axis=1), np.tile(unknowns, 24)
    values = np.tile(stiffness.ravel(), len(elements))
    matrix = sparse.csr_matrix((values, (rows.ravel(), columns.ravel())), shape=(nodes.size, nodes.size))
    force = np.bincount(unknowns.ravel(), np.tile(load, len(elements)), minlength=nodes.size)
    free = np.flatnonzero(np.repeat(nodes[:, 2] > 0, 3))
    matrix = matrix[free][:, free]
    diagonal = matrix.diagonal()
    jacobi = LinearOperator(matrix.shape, lambda vector: vector / diagonal, dtype=np.float64)
    solution, failed = cg(matrix, force[free], rtol=_RESIDUAL, maxiter=_ITERATIONS, M=jacobi)
    if failed:
        raise ArithmeticError(f"conjugate gradients did not converge in {_ITERATIONS} iterations on {len(nodes)} nodes")
    result = np.zeros(nodes.size)
    result[free] = solution
    return result.reshape(-1, 3)


def nodal_von_mises(
    displacements: Float64[np.ndarray, "N 3"],
    elements: Int[np.ndarray, "M 8"],
    size: float,
    material: Float64[np.ndarray, "6 6"],
    inherent: Float64[np.ndarray, "6"],
) -> Float64[np.ndarray, "N"]:
    """Return the von Mises stress at the nodes: the mean of those in the middle of the elements around."""
    local = displacements[elements].reshape(-1, 24)
    stress = (local @ strain_matrix((0.5, 0.5, 0.5), size).T - inherent) @ material
    xx, yy, zz, yz, xz, xy = stress.T
    middle = np.sqrt(0.5 * ((xx - yy) ** 2 + (yy - zz) ** 2 + (zz - xx) ** 2) + 3.0 * (yz**2 + xz**2 + xy**2))
    number = np.bincount(elements.ravel(), minlength=len(displacements))
    return np.bincount(elements.ravel(), np.repeat(middle, 8), minlength=len(displacements)) / number


def _element(size: float, material: np.ndarray, inherent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the stiffness of an element and the load of its inherent strain, by 2 x 2 x 2 Gauss points."""
    stiffness, load = np.zeros((24, 24)), np.zeros(24)
    for place in _gauss_points():
        strain = strain_matrix(place, size)
        stiffness += strain.T @ material @ strain * size**3 / 8.0
        load += strain.T @ material @ inherent * size**3 / 8.0
    return stiffness, load


@cache
def _gauss_points() -> list[tuple[float, float, float]]:
    return list(product((0.5 - np.sqrt(1.0 / 12.0), 0.5 + np.sqrt(1.0 / 12.0)), repeat=3))
