"""The solver against exact solutions: patch test, Kirsch's stress concentration, virtual work."""

from functools import partial

import numpy as np
import pytest
from skfem import MeshQuad, MeshQuad2

from data_pipeline.generate import elasticity, plane_stress, unit_cell


def _distorted_square(per_side: int) -> MeshQuad2:
    """A Q2 mesh of the unit square with all inner nodes, and the edge middles along the sides, out of place."""
    mesh = MeshQuad2.from_mesh(MeshQuad.init_tensor(*2 * [np.linspace(0.0, 1.0, per_side + 1)]))
    x, y = mesh.doflocs
    shift = 0.3 / per_side * np.random.default_rng(0).uniform(-0.5, 0.5, size=(2, x.size))
    corner = np.isin(x, [0.0, 1.0]) & np.isin(y, [0.0, 1.0])
    moved = np.array([x + shift[0] * ~np.isin(x, [0.0, 1.0]), y + shift[1] * ~np.isin(y, [0.0, 1.0])])
    return MeshQuad2(np.where(corner, mesh.doflocs, moved), mesh.t)


def test_patch_of_uniaxial_tension_is_exact():
    mesh = _distorted_square(4)
    basis = plane_stress.q2_basis(mesh)
    x, y = mesh.doflocs
    rollers = np.array([(x == 0.0) & (y == 0.0), y == 0.0])
    forces = plane_stress.edge_forces(mesh, mesh.facets_satisfying(lambda p: p[1] == 1.0), (0.0, 100.0))
    solution = plane_stress.displacement(basis, rollers, forces)
    # Young's modulus is 3 and Poisson's ratio 1/2 where the shear modulus is 1.
    np.testing.assert_allclose(solution, np.array([-50.0 / 3.0 * x, 100.0 / 3.0 * y]), atol=1e-10)
    stress = plane_stress.nodal_stress(basis, solution)
    np.testing.assert_allclose(stress, np.outer([0.0, 100.0, 0.0], np.ones(x.size)), atol=1e-8)
    np.testing.assert_allclose(plane_stress.von_mises(stress), 100.0, rtol=1e-10)


def test_forces_of_edges_with_displaced_middle_nodes():
    mesh = _distorted_square(3)
    facets = mesh.facets_satisfying(lambda p: p[0] == 1.0)
    forces = plane_stress.edge_forces(mesh, facets, (3.0, -2.0))
    np.testing.assert_allclose(forces.sum(axis=1), [3.0, -2.0], rtol=1e-12)
    # The work on a linear and on a rigid motion is that of the continuous traction.
    np.testing.assert_allclose(forces[0] @ mesh.doflocs[1], 1.5, rtol=1e-12)
    assert not forces[:, mesh.doflocs[0] < 1.0].any()


def test_von_mises_of_known_states():
    states = np.array([[100.0, 0.0, 0.0], [0.0, 0.0, 100.0], [70.0, 70.0, 0.0]]).T
    np.testing.assert_allclose(plane_stress.von_mises(states), [100.0, 100.0 * np.sqrt(3.0), 70.0])


def _concentration(rays: int, rings: int, radius: float) -> float:
    """Largest stress at a circular hole in the unit square under unit tension."""
    depths = np.expm1(np.linspace(0.0, 4.0, rings + 1)) / np.expm1(4.0)
    grid = unit_cell.o_grid(np.arange(rays) / rays, depths)
    mesh = grid.bend(lambda angles: np.full(angles.shape, radius))
    basis = plane_stress.q2_basis(mesh)
    rollers = np.zeros(mesh.doflocs.shape, bool)
    rollers[1, grid.side_nodes(2)] = True
    rollers[0, np.flatnonzero((grid.turn == 0.625) & (grid.depth == 1.0))] = True
    forces = plane_stress.edge_forces(mesh, grid.side_facets(0), (0.0, 1.0))
    stress = plane_stress.nodal_stress(basis, plane_stress.displacement(basis, rollers, forces))
    sides = (grid.depth == 0.0) & np.isin(grid.turn, [0.375, 0.875])
    assert sides.sum() == 2
    return float(plane_stress.von_mises(stress)[sides].mean())


def test_kirsch_concentration_of_a_small_hole_is_three():
    coarse, medium, fine = (_concentration(*size, 0.05) for size in [(16, 5), (32, 10), (64, 20)])
    assert abs(medium - fine) < 0.3 * abs(coarse - fine)
    assert abs(fine - 3.0) < 0.06
    # The excess over an infinite sheet goes with the square of the hole's size.
    assert abs(_concentration(64, 20, 0.0125) - 3.0) < (fine - 3.0) / 8.0


def test_stress_around_a_void_does_the_work_of_the_load():
    grid = unit_cell.graded_grid(36, 4, 2)
    mesh = grid.bend(partial(unit_cell.void_radius, elasticity.coefficients(0, 0)))
    basis = plane_stress.q2_basis(mesh)
    clamped = np.zeros(mesh.doflocs.shape, bool)
    clamped[:, grid.side_nodes(2)] = True
    forces = plane_stress.edge_forces(mesh, grid.side_facets(0), (0.0, 100.0))
    stress = plane_stress.nodal_stress(basis, plane_stress.displacement(basis, clamped, forces))
    # With the virtual displacements (0, y) and (y, 0): the integral of yy is 100 and that of xy is zero, exactly.
    integrals = [float(np.sum(basis.interpolate(component) * basis.dx)) for component in stress]
    assert integrals[1] == pytest.approx(100.0, rel=1e-9)
    assert integrals[2] == pytest.approx(0.0, abs=1e-8)
