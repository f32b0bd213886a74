"""Matrices of rectangular hexahedra: elasticity with incompatible modes, and heat conduction.

Strains and stresses are in the order xx, yy, zz, yz, xz, xy with doubled shears, displacements x, y, z of each corner.
The incompatible modes 1 - ξ² of every direction and component let an element bend without shear; they are condensed.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float

from data_pipeline.additive.lattice import CORNERS

_GAUSS = 1.0 / np.sqrt(3.0)


@dataclass(frozen=True)
class Brick:
    """One size of element: `stiffness`, `load` from a constant inherent strain, and `strain` in the middle."""

    stiffness: Float[np.ndarray, "24 24"]
    load: Float[np.ndarray, "24 6"]
    strain: Float[np.ndarray, "6 24"]


def elasticity_matrix(young: float, poisson: float) -> Float[np.ndarray, "6 6"]:
    """Return the matrix from strains to stresses, in the unit of Young's modulus."""
    first = young * poisson / ((1.0 + poisson) * (1.0 - 2.0 * poisson))
    shear = young / (2.0 * (1.0 + poisson))
    matrix = np.diag([2.0 * shear] * 3 + [shear] * 3)
    matrix[:3, :3] += first
    return matrix


def brick(size: Float[np.ndarray, " 3"], material: Float[np.ndarray, "6 6"], incompatible: bool = True) -> Brick:
    """Return the matrices of an element of this size in mm, by 2 x 2 x 2 Gauss points.

    Without its incompatible modes the element locks in shear; that is here for comparison only.
    """
    stiffness, coupling, inner, load = np.zeros((24, 24)), np.zeros((24, 9)), np.zeros((9, 9)), np.zeros((24, 6))
    weight = float(np.prod(size)) / 8.0
    for place in product((-_GAUSS, _GAUSS), repeat=3):
        strain, modes = _strain(_gradients(place, size)), _strain(np.diag(-4.0 * np.array(place) / size))
        stiffness += weight * strain.T @ material @ strain
        coupling += weight * strain.T @ material @ modes
        inner += weight * modes.T @ material @ modes
        load += weight * strain.T @ material
    if incompatible:
        # The modes have no mean strain, so that a constant inherent strain does not load them.
        stiffness = stiffness - coupling @ np.linalg.solve(inner, coupling.T)
    return Brick(0.5 * (stiffness + stiffness.T), load, _strain(_gradients((0.0, 0.0, 0.0), size)))


def conduction_matrix(size: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "8 8"]:
    """Return the matrix of heat flows between the corners for a conductivity of 1."""
    matrix = np.zeros((8, 8))
    for place in product((-_GAUSS, _GAUSS), repeat=3):
        gradients = _gradients(place, size)
        matrix += gradients @ gradients.T * float(np.prod(size)) / 8.0
    return matrix


def _gradients(place: tuple[float, ...], size: np.ndarray) -> np.ndarray:
    """Return the gradients [8, 3] of the shape functions at a place in [-1, 1]³."""
    signs = 2.0 * CORNERS - 1.0
    factors = 0.5 * (1.0 + signs * np.array(place))
    return np.stack([signs[:, d] * np.delete(factors, d, axis=1).prod(axis=1) / size[d] for d in range(3)], axis=1)


def _strain(gradients: np.ndarray) -> np.ndarray:
    """Return the matrix [6, 3 K] from the three components of K functions to strains, from their gradients [K, 3]."""
    matrix = np.zeros((6, len(gradients), 3))
    for d in range(3):
        matrix[d, :, d] = gradients[:, d]
    for row, (a, b) in enumerate(((1, 2), (0, 2), (0, 1)), start=3):
        matrix[row, :, a], matrix[row, :, b] = gradients[:, b], gradients[:, a]
    return matrix.reshape(6, -1)
