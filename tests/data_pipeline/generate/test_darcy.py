"""Darcy flow against exact values, a manufactured solution and conservation; layout of the files."""

import numpy as np
import pytest
from scipy.io import loadmat

from data_pipeline.generate import darcy, generate
from data_pipeline.generate.generator import Settings
from data_pipeline.registry import find_record
from tests.numerics import rms_ratio


@pytest.mark.parametrize(("side", "largest"), [(85, 0.073663), (253, 0.0736704)])
def test_constant_permeability_gives_the_known_maximum(side, largest):
    pressure = darcy.solve_pressure(np.ones((side, side)))
    assert pressure.max() == pytest.approx(largest, abs=3e-7)
    # The exact maximum, by the double sine series.
    odd = np.arange(1, 400, 2)
    signs = (-1.0) ** ((odd - 1) // 2)
    series = np.outer(signs / odd, signs / odd) / np.add.outer(odd**2, odd**2)
    assert pressure.max() == pytest.approx(16.0 / np.pi**4 * series.sum(), rel=2e-4)


def test_manufactured_solution_converges_with_second_order():
    errors = []
    for side in (17, 33, 65):
        x, y = np.meshgrid(*2 * [np.linspace(0.0, 1.0, side)], indexing="ij")
        exact = np.sin(np.pi * x) * np.sin(np.pi * y)
        source = 2.0 * np.pi**2 * (1.0 + x) * exact - np.pi * np.cos(np.pi * x) * np.sin(np.pi * y)
        errors.append(np.abs(darcy.solve_pressure(1.0 + x, source) - exact).max())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.05)
    assert np.log2(errors[1] / errors[2]) == pytest.approx(2.0, abs=0.05)


def test_outflow_balances_the_source():
    side = 61
    coefficient = darcy.permeability(0, 0, side)
    pressure = darcy.solve_pressure(coefficient)
    outflow = 0.0
    for turn in range(4):
        a, u = np.rot90(coefficient, turn), np.rot90(pressure, turn)
        outflow += (0.5 * (a[0, 1:-1] + a[1, 1:-1]) * u[1, 1:-1]).sum()
    assert outflow == pytest.approx(((side - 2) / (side - 1)) ** 2, rel=1e-8)
    assert pressure.min() == 0.0
    assert pressure[1:-1, 1:-1].min() > 0.0


def test_permeability_has_two_values_and_is_the_same_medium_on_every_grid():
    coarse, fine = darcy.permeability(3, 5, 85), darcy.permeability(3, 5, 169)
    assert set(np.unique(coarse)) == {3.0, 12.0}
    assert (coarse != fine[::2, ::2]).mean() < 0.04
    assert (coarse != darcy.permeability(3, 6, 85)).mean() > 0.1
    share = np.mean([(darcy.permeability(0, index, 43) == 12.0).mean() for index in range(200)])
    assert share == pytest.approx(0.5, abs=0.03)


def test_public_statistics_at_the_resolution_of_the_benchmark():
    fields = darcy.GENERATOR.configure(Settings(resolution=85)).solve(0, range(6))["sol"]
    assert 0.009 < fields.max(axis=(1, 2)).mean() < 0.016
    assert 0.0045 < fields.mean() < 0.0075


def test_refinement_keeps_every_second_point_of_the_finer_grid():
    fine = darcy.GENERATOR.configure(Settings(resolution=41)).solve(1, range(2))
    kept = darcy.GENERATOR.configure(Settings(resolution=21, refinement=2)).solve(1, range(2))
    for name, values in kept.items():
        np.testing.assert_array_equal(values, fine[name][:, ::2, ::2])


def test_files_and_loader(tmp_path):
    folder = generate("darcy", tmp_path, num=7, workers=1, progress=False, resolution=11)
    train, test = (loadmat(folder / f"piececonst_r421_N1024_smooth{number}.mat") for number in (1, 2))
    for part, num in ((train, 6), (test, 1)):
        assert part["coeff"].shape == part["sol"].shape == (num, 11, 11)
        assert part["coeff"].dtype == part["sol"].dtype == np.float64
    for index, (part, row) in ((0, (train, 0)), (5, (train, 5)), (6, (test, 0))):
        coefficient = darcy.permeability(0, index, 11)
        np.testing.assert_array_equal(part["coeff"][row], coefficient)
        assert rms_ratio(part["sol"][row], darcy.solve_pressure(coefficient)) < 1e-12
    loaded = find_record("darcy").load(tmp_path, 6, 1, side=6)
    assert loaded.train.x.shape == (6, 36, 3)
    np.testing.assert_allclose(loaded.tests["test"].y[0, :, 0], test["sol"][0, ::2, ::2].ravel(), rtol=1e-6)
