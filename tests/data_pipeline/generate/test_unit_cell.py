"""Geometry of the unit cell: the void's outline, the O-grid, the points."""

from functools import partial

import numpy as np
import pytest

from data_pipeline.generate import plane_stress, unit_cell

ANGLES = np.linspace(0.0, 2.0 * np.pi, 361)


def _random_outline(seed: int):
    return partial(unit_cell.void_radius, np.random.default_rng(seed).standard_normal(10))


def test_void_radius_of_single_modes():
    np.testing.assert_allclose(unit_cell.void_radius(np.zeros(10), ANGLES), 0.3)
    for position, wave in [(0, np.cos(ANGLES)), (3, np.sin(2 * ANGLES)), (8, np.cos(5 * ANGLES))]:
        mode = position // 2 + 1
        expected = 0.2 + 0.2 / (1.0 + np.exp(2.0 * 4.0 / np.sqrt(np.pi * (mode**2 + 9.0)) * wave))
        np.testing.assert_allclose(unit_cell.void_radius(2.0 * np.eye(10)[position], ANGLES), expected, rtol=1e-12)


def test_void_radii_fill_their_range_without_saturating():
    radii = np.array([_random_outline(seed)(ANGLES[:-1:5]) for seed in range(300)])
    assert 0.2 < radii.min() < 0.21
    assert 0.39 < radii.max() < 0.4
    assert ((radii < 0.205) | (radii > 0.395)).mean() < 0.01
    assert abs(radii.mean() - 0.3) < 0.005


def test_grid_follows_void_and_contains_corners():
    grid = unit_cell.graded_grid(24, 4, 2)
    outline = _random_outline(0)
    mesh = grid.bend(outline)
    x, y = mesh.doflocs - 0.5
    on_void = grid.depth == 0.0
    np.testing.assert_allclose(np.hypot(x, y)[on_void], outline(np.arctan2(y, x)[on_void]), rtol=1e-12)
    vertices = mesh.doflocs[:, : int(mesh.t.max()) + 1]
    for corner in [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)]:
        assert np.abs(vertices - np.array(corner)[:, None]).max(axis=0).min() < 1e-15
    basis = plane_stress.q2_basis(mesh)
    np.testing.assert_allclose(basis.doflocs, mesh.doflocs)
    assert (basis.mapping.detDF(basis.X) > 0.0).all()
    area = 1.0 - 0.5 * np.trapezoid(outline(ANGLES) ** 2, ANGLES)
    assert basis.dx.sum() == pytest.approx(area, rel=1e-4)


@pytest.mark.parametrize(("side", "axis", "value"), [(0, 1, 1.0), (1, 0, 0.0), (2, 1, 0.0), (3, 0, 1.0)])
def test_sides_of_the_square(side, axis, value):
    grid = unit_cell.graded_grid(12, 2, 1)
    mesh = grid.bend(_random_outline(1))
    expected = np.abs(mesh.doflocs[axis] - value) < 1e-12
    assert set(grid.side_nodes(side)) == set(np.flatnonzero(expected))
    ends = mesh.doflocs[axis][mesh.facets]
    assert set(grid.side_facets(side)) == set(np.flatnonzero((np.abs(ends - value) < 1e-12).all(axis=0)))


def test_located_points_are_where_they_should_be():
    grid = unit_cell.graded_grid(72, 6, 2)
    outline = _random_outline(2)
    turn, depth = unit_cell.gauss_points(36, 3)
    turn, depth = np.append(turn, [0.0, 1.0, 0.999, 0.5]), np.append(depth, [0.0, 1.0, 1.0, 0.0])
    elements, local = grid.locate(turn, depth)
    assert local.min() >= 0.0
    assert local.max() <= 1.0
    basis = plane_stress.q2_basis(grid.bend(outline))
    points = plane_stress.interpolate(basis, basis.mesh.doflocs, elements, local)
    np.testing.assert_allclose(points, unit_cell.place(turn, depth, outline), atol=2e-4)


def test_gauss_points_are_ordered_by_angle_then_outwards():
    turn, depth = unit_cell.gauss_points(36, 3)
    assert turn.shape == depth.shape == (972,)
    assert (np.diff(turn) >= 0.0).all()
    assert (np.diff(depth.reshape(108, 9), axis=1) > 0.0).all()
    nodes = (np.polynomial.legendre.leggauss(3)[0] + 1.0) / 2.0
    np.testing.assert_allclose(depth[:3], nodes / 3.0)
    np.testing.assert_allclose(np.unique(turn.round(12))[:3], nodes / 36.0)


def test_bad_grid_sizes_are_refused():
    with pytest.raises(ValueError, match=r"rays must be a positive multiple of 4 .* got 30"):
        unit_cell.graded_grid(30, 3, 0)
    with pytest.raises(ValueError, match="rings must be at least 1, got 0"):
        unit_cell.graded_grid(8, 0, 0)
