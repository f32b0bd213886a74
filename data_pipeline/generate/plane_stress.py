"""Linear incompressible elasticity in plane stress on a biquadratic mesh (scikit-fem elements, SciPy direct solve).

An incompressible sheet is free to change its thickness, so plane stress fixes the pressure pointwise: with the strain
``e`` of the plane and the shear modulus ``mu``, ``e_zz = -tr e`` and ``sigma_zz = 2 mu e_zz - p = 0`` give
``p = -2 mu tr e``, hence ``sigma = 2 mu (e + tr(e) I)`` in the plane. The problem is elliptic in the displacement
alone: there is no constraint to keep, so neither a pressure space nor locking. With traction loads and zero
displacements elsewhere the stress does not depend on ``mu``, which is 1 here.

Nodes are those of the isoparametric Q2 mesh; a field has one value per node in the order of ``mesh.doflocs``.
"""

import numpy as np
import scipy.sparse as sparse
from jaxtyping import Bool, Float64, Int
from scipy.sparse.linalg import SuperLU, splu
from skfem import Basis, BilinearForm, ElementQuad2, LinearForm, MeshQuad2

# Integral over the edge of shape function i times the derivative of shape function j (ends first, then the middle).
_EDGE_INTEGRALS = np.array([[-3.0, -1.0, 4.0], [1.0, 3.0, -4.0], [-4.0, 4.0, 0.0]]) / 6.0
# Nodes of a quadrilateral in the order of scikit-fem's ElementQuad2.
_SHAPES = 9


def q2_basis(mesh: MeshQuad2) -> Basis:
    """Return the scalar Q2 basis of `mesh` with 3 x 3 Gauss points, which integrates linear fields exactly."""
    return Basis(mesh, ElementQuad2(), intorder=4)


def edge_forces(
    mesh: MeshQuad2, facets: Int[np.ndarray, "N"], traction: tuple[float, float]
) -> Float64[np.ndarray, "2 M"]:
    """Return the nodal forces equivalent to a constant traction on straight edges.

    Arguments: `facets`, indices of edges on straight sides; `traction`, force per length in x and y.
    Returns: forces `[2, nodes]`, whose sum is traction times length.
    """
    vertices = mesh.facets[:, facets]
    nodes = np.vstack([vertices, int(mesh.t.max()) + 1 + facets])
    chord = mesh.doflocs[:, vertices[1]] - mesh.doflocs[:, vertices[0]]
    tangent = chord / np.linalg.norm(chord, axis=0)
    # The middle node need not halve the edge, so the arc length is a quadratic function along it.
    along = np.einsum("cf,cif->if", tangent, mesh.doflocs[:, nodes])
    lengths = np.bincount(nodes.ravel(), (_EDGE_INTEGRALS @ along).ravel(), minlength=mesh.doflocs.shape[1])
    return np.outer(np.asarray(traction, np.float64), lengths)


def displacement(
    basis: Basis, fixed: Bool[np.ndarray, "2 N"], forces: Float64[np.ndarray, "2 N"]
) -> Float64[np.ndarray, "2 N"]:
    """Solve for the displacement of every node, in units where the shear modulus is 1.

    Arguments: `basis` from `q2_basis`; `fixed`, components held at zero; `forces`, nodal forces.
    """
    free = np.flatnonzero(~fixed.ravel())
    result = np.zeros(fixed.size)
    result[free] = _factorize(_stiffness(basis)[free][:, free]).solve(forces.ravel()[free])
    return result.reshape(fixed.shape)


def nodal_stress(basis: Basis, displacements: Float64[np.ndarray, "2 N"]) -> Float64[np.ndarray, "3 N"]:
    """Return continuous stresses (xx, yy, xy) at the nodes: the L2 projection of the element stresses onto Q2.

    The projection averages the jumps between elements and keeps the integral of each component.
    """
    (xx, xy), (yx, yy) = (basis.interpolate(component).grad for component in displacements)
    stresses = (4.0 * xx + 2.0 * yy, 4.0 * yy + 2.0 * xx, xy + yx)
    mass = _factorize(BilinearForm(lambda u, v, _: u * v).assemble(basis))
    load = LinearForm(lambda v, w: w["stress"] * v)
    return np.array([mass.solve(load.assemble(basis, stress=stress)) for stress in stresses])


def interpolate(
    basis: Basis,
    field: Float64[np.ndarray, "C N"],
    elements: Int[np.ndarray, "M"],
    local: Float64[np.ndarray, "2 M"],
) -> Float64[np.ndarray, "C M"]:
    """Evaluate nodal fields at points given by element and local coordinates in the unit square."""
    shapes = np.array([basis.elem.lbasis(local, i)[0] for i in range(_SHAPES)])
    return np.einsum("cin,in->cn", field[:, basis.element_dofs[:, elements]], shapes)


def von_mises(stress: Float64[np.ndarray, "3 N"]) -> Float64[np.ndarray, "N"]:
    """Return the von Mises stress of (xx, yy, xy) with no stress out of the plane."""
    xx, yy, xy = stress
    return np.sqrt(xx**2 - xx * yy + yy**2 + 3.0 * xy**2)


def _stiffness(basis: Basis) -> sparse.csr_matrix:
    """Return the stiffness for displacements ordered (all x, all y), as blocks of products of scalar derivatives."""
    xx = BilinearForm(lambda u, v, _: u.grad[0] * v.grad[0]).assemble(basis)
    yy = BilinearForm(lambda u, v, _: u.grad[1] * v.grad[1]).assemble(basis)
    mixed = BilinearForm(lambda u, v, _: 2.0 * u.grad[1] * v.grad[0] + u.grad[0] * v.grad[1]).assemble(basis)
    return sparse.bmat([[4.0 * xx + yy, mixed], [mixed.T, 4.0 * yy + xx]], format="csr")


def _factorize(matrix: sparse.spmatrix) -> SuperLU:
    """Factorize a symmetric positive definite matrix; without pivoting the fill stays that of minimum degree."""
    return splu(matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
