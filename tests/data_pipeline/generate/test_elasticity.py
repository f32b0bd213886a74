"""Samples of the elasticity data: layout, bounds, determinism, symmetry and convergence under refinement."""

from functools import partial

import numpy as np
import pytest

from data_pipeline.generate import elasticity, unit_cell
from tests.numerics import rms_ratio

POINTS = unit_cell.gauss_points(elasticity.POINT_COLUMNS, elasticity.POINT_ROWS)


@pytest.mark.parametrize("index", [0, 661])
def test_sample_layout_and_bounds(index):
    sample = elasticity.solve_sample(0, index)
    shapes = {name: (array.shape, array.dtype.name) for name, array in sample.items()}
    assert shapes == {
        "xy": ((972, 2), "float64"),
        "sigma": ((972,), "float64"),
        "rr": ((42,), "float64"),
        "theta": ((10,), "float64"),
    }
    assert sample["xy"].min() > 0.0
    assert sample["xy"].max() < 1.0
    x, y = sample["xy"].astype(np.float64).T - 0.5
    assert (np.hypot(x, y) > unit_cell.void_radius(sample["theta"], np.arctan2(y, x))).all()
    assert len(np.unique(sample["xy"], axis=0)) == 972
    assert ((sample["rr"] > 0.2) & (sample["rr"] < 0.4)).all()
    assert sample["rr"][0] == pytest.approx(sample["rr"][-1], abs=1e-12)
    assert sample["sigma"].min() > 0.0
    # The material beside the void carries the whole load of 100, on at most three fifths of the width.
    assert 100.0 / 0.6 < sample["sigma"].max() < 2000.0


def test_sample_depends_on_seed_and_index_only():
    first, again, *others = (elasticity.solve_sample(*key) for key in [(0, 3), (0, 3), (1, 3), (0, 4)])
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
        assert not any(np.array_equal(array, other[name]) for other in others)


def test_mirrored_void_gives_mirrored_stress():
    theta = np.array([0.7, -1.1, 0.4, 1.3, -0.6, 0.2, 1.0, -0.8, 0.5, 0.9])
    # Under phi -> pi - phi, cos(k phi) takes the sign (-1)^k and sin(k phi) the opposite one.
    signs = np.array([-1, 1, 1, -1, -1, 1, 1, -1, -1, 1])
    grid = unit_cell.graded_grid(36, 3, 1)
    stresses = []
    for coefficients in (theta, signs * theta):
        radius = partial(unit_cell.void_radius, coefficients)
        stresses.append(elasticity.solve_cell(grid, radius, *POINTS).reshape(108, 9))
    # The first point after the top right corner mirrors the last one before the top left corner.
    mirrored = stresses[1][(26 - np.arange(108)) % 108]
    np.testing.assert_allclose(mirrored, stresses[0], rtol=1e-6)
    assert rms_ratio(stresses[1], stresses[0]) > 0.05


def test_refinement_converges_to_the_mesh_of_the_data():
    radius = partial(unit_cell.void_radius, elasticity.coefficients(0, 0))
    sizes = [(36, 3, 1), (72, 6, 2), (elasticity.RAYS, elasticity.RINGS, elasticity.HALVINGS), (288, 24, 5)]
    stresses = [elasticity.solve_cell(unit_cell.graded_grid(*size), radius, *POINTS) for size in sizes]
    errors = [rms_ratio(stress, stresses[-1]) for stress in stresses[:-1]]
    assert errors[0] > 2.0 * errors[1] > 4.0 * errors[2]
    assert errors[2] < 5e-3
