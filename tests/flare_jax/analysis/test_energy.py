"""The radial energy spectrum: Parseval's sum, single modes in their shells, grids of several shapes."""

import numpy as np
import pytest

from flare_jax.analysis import radial_energy, whole_shells
from flare_jax.analysis.figures import energy_figure


@pytest.mark.parametrize("grid", [(8, 8), (7, 12), (5,), (4, 6, 3)])
def test_energies_add_up_to_the_mean_square(grid):
    fields = np.random.default_rng(0).normal(size=(2, *grid, 3))
    energy = radial_energy(fields)
    axes = tuple(range(1, 1 + len(grid)))
    np.testing.assert_allclose(energy.sum(1), np.square(fields).mean(axes), rtol=1e-12)
    assert energy.shape[1] >= whole_shells(grid)


@pytest.mark.parametrize(("numbers", "shell"), [((0, 0), 0), ((3, 0), 3), ((0, 5), 5), ((3, 4), 5), ((1, 1), 1)])
def test_a_single_mode_is_in_its_shell(numbers, shell):
    x, y = np.meshgrid(np.arange(16) / 16, np.arange(20) / 20, indexing="ij")
    field = 2 * np.cos(2 * np.pi * (numbers[0] * x + numbers[1] * y))
    energy = radial_energy(field[None, ..., None])[0, :, 0]
    expected = 4.0 if numbers == (0, 0) else 2.0
    np.testing.assert_allclose(energy, expected * (np.arange(len(energy)) == shell), atol=1e-12)


def test_fields_without_a_grid_are_refused():
    with pytest.raises(ValueError, match=r"fields have the shape \(2, 3\), without a grid"):
        radial_energy(np.zeros((2, 3)))


def test_the_figure_has_a_panel_for_each_field():
    energies = {name: np.full((5, 2), value) for name, value in (("truth", 1.0), ("prediction", 0.5))}
    figure = energy_figure(energies, ["p", "u"])
    assert [axes.get_title() for axes in figure.axes] == ["p", "u"]
    np.testing.assert_allclose(figure.axes[1].lines[1].get_ydata(), 0.5)
