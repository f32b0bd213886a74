"""The compressible solver and the C-grid: free stream, symmetry, enthalpy, shock; the files."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline.generate import airfoil, c_grid, euler
from data_pipeline.generate.generator import Settings
from data_pipeline.registry import find_record

CELLS = 20


@cache
def _undeformed():
    nodes = c_grid.c_grid(np.zeros((2, 4)), CELLS)
    return nodes, airfoil.solve_flows(nodes[None], tolerance=2.5e-5)[0]


def test_section_is_naca_0012_and_moves_with_the_control_nodes():
    side = np.linspace(-1.0, 1.0, 241)
    x, y = c_grid.section(side, np.zeros((2, 4))).T
    np.testing.assert_allclose(y, -y[::-1], atol=1e-15)
    assert y.max() == pytest.approx(0.06, abs=1e-4)
    assert x[y.argmax()] == pytest.approx(0.3, abs=0.02)
    np.testing.assert_allclose([x[0], y[0], x[120], y[120]], [1.0, 0.0, 0.0, 0.0], atol=1e-12)
    lifted = c_grid.section(side, np.full((2, 4), 0.03))
    np.testing.assert_allclose(lifted, np.stack([x, y + 0.03], axis=-1), atol=1e-14)
    # A displacement that is linear in y stretches, one that is a cubic in x is followed exactly.
    nodes_x = np.array([-0.25, 0.25, 0.75, 1.25])
    bent = c_grid.section(side, np.stack([nodes_x**3 - 0.05, nodes_x**3 + 0.05]))
    np.testing.assert_allclose(bent[:, 1], y + x**3 + 0.5 * y, atol=1e-14)


@pytest.mark.parametrize("cells", [10, 50])
def test_grid_is_valid_and_has_the_layout_of_the_data(cells):
    for index in range(3):
        nodes = c_grid.c_grid(airfoil.displacements(0, index), cells)
        assert nodes.shape == (22 * cells // 5 + 1, cells + 1, 2)
        assert float(jax.jit(euler.geometry)(jnp.asarray(nodes)).area.min()) > 0.0
        np.testing.assert_array_equal(nodes[: cells + 1, 0], nodes[: -cells - 2 : -1, 0])
        assert nodes[0, 0, 0] == pytest.approx(40.0)
        assert np.hypot(*(nodes[len(nodes) // 2, -1] - [1.0, 0.0])) == pytest.approx(40.0)


def test_first_step_outwards():
    nodes = c_grid.c_grid(np.zeros((2, 4)), 50)
    step = np.linalg.norm(nodes[60:160, 1] - nodes[60:160, 0], axis=-1)
    np.testing.assert_allclose(step, 2.0 / 120.0, rtol=0.05)


def test_free_stream_is_preserved_on_a_deformed_grid():

    def relative_rate(nodes):
        geometry, far = euler.geometry(nodes), euler.free_stream(0.8)
        state = jnp.broadcast_to(far[:, None, None], (4, *geometry.area.shape))
        return euler.residual(state, geometry, far) * euler.time_step(state, geometry) / geometry.area

    with jax.enable_x64(True):
        rate = np.asarray(jax.jit(relative_rate)(jnp.asarray(c_grid.c_grid(airfoil.displacements(0, 0), 10))))
    section = slice(10, -10)
    assert np.abs(rate[:, section, 2:]).max() < 1e-12
    assert np.abs(rate[:, :10]).max() < 1e-12
    # The wall turns the stream, so that it is not steady there.
    assert np.abs(rate[:, section, 0]).max() > 1e-3


def test_fluxes_are_conservative_and_the_wall_lets_nothing_through():
    far = np.array([1.0, 0.8 * 1.4**0.5, 0.0, 1.0])[:, None, None]
    state = far * (1.0 + 0.1 * np.random.default_rng(0).standard_normal((4, 44, 10)))
    # Uniform beyond the section's neighbourhood: what leaves the cells must cancel in mass and energy.
    state[:, :, 5:], state[:, :3], state[:, -3:] = far, far, far

    def residual(nodes, state):
        return euler.residual(state, euler.geometry(nodes), euler.free_stream(0.8))

    with jax.enable_x64(True):
        nodes = jnp.asarray(c_grid.c_grid(airfoil.displacements(0, 1), 10))
        rate = np.asarray(jax.jit(residual)(nodes, jnp.asarray(state)))
    total, size = rate.sum(axis=(1, 2)), np.abs(rate).sum(axis=(1, 2))
    assert (np.abs(total[[0, 3]]) < 1e-12 * size[[0, 3]]).all()


def test_undeformed_section_has_no_lift_constant_enthalpy_and_a_shock():
    nodes, (rho, u, v, p, mach) = _undeformed()
    for even in (rho, u, p, mach):
        np.testing.assert_allclose(even, even[::-1], atol=1e-10)
    np.testing.assert_allclose(v, -v[::-1], atol=1e-10)
    enthalpy = 3.5 * p / rho + 0.5 * (u**2 + v**2)
    expected = 3.5 + 0.5 * 1.4 * 0.8**2
    assert np.sqrt(np.mean((enthalpy / expected - 1.0) ** 2)) < 3e-3
    upper = slice(CELLS + 6 * CELLS // 5, -CELLS)
    x, surface = nodes[upper, 0, 0], mach[upper, 0]
    assert surface[0] < 0.35
    assert surface.max() > 1.05
    shock = x[surface.argmax() :][np.argmax(surface[surface.argmax() :] < 0.95)]
    assert 0.4 < shock < 0.6
    np.testing.assert_allclose(mach[CELLS:-CELLS, -1], 0.8, atol=0.01)


def test_velocity_follows_the_wall_and_the_cut_is_continuous():
    nodes, flow = _undeformed()
    wall = nodes[CELLS:-CELLS, 0]
    tangent = wall[2:] - wall[:-2]
    u, v = flow[1:3, CELLS + 1 : -CELLS - 1, 0]
    assert np.abs(u * tangent[:, 1] - v * tangent[:, 0]).max() < 1e-14
    np.testing.assert_array_equal(flow[:, : CELLS + 1, 0], flow[:, : -CELLS - 2 : -1, 0])


def test_a_march_that_does_not_end_is_reported(monkeypatch):
    cells, nodes = np.ones((1, 4, 22, 5)), c_grid.c_grid(np.zeros((2, 4)), 5)[None]
    for change in (0.01, np.nan):
        monkeypatch.setattr(
            euler, "solve", lambda *_, change=change: (cells * change, np.array([change]), np.array([10_000]))
        )
        with pytest.raises(ArithmeticError, match="the flow around airfoil 0 of a batch is not steady"):
            airfoil.solve_flows(nodes)
    # What the smoke variants' first profile ends at.
    monkeypatch.setattr(euler, "solve", lambda *_: (cells, np.array([1.0292e-4]), np.array([10_000])))
    assert np.isfinite(airfoil.solve_flows(nodes)).all()


def test_files_and_loader(tmp_path, monkeypatch):
    # One sample at a time on the grid above, so that nothing is compiled again; far from steady, to be quick.
    monkeypatch.setattr(airfoil, "solve_flows", partial(airfoil.solve_flows, tolerance=1e-3))
    generator = airfoil.GENERATOR.configure(Settings(resolution=CELLS + 1))
    folder = tmp_path / generator.folder
    folder.mkdir(parents=True)
    one, other = (generator.solve(1, range(index, index + 1)) for index in range(2))
    generator.export({name: np.concatenate([one[name], other[name]]) for name in one}, folder)
    x, y, q = (np.load(folder / f"NACA_Cylinder_{name}.npy") for name in "XYQ")
    assert [(array.shape, array.dtype.name) for array in (x, y, q)] == [
        ((2, 89, 21), "float64"),
        ((2, 89, 21), "float64"),
        ((2, 5, 89, 21), "float64"),
    ]
    nodes = c_grid.c_grid(airfoil.displacements(1, 1), CELLS)
    np.testing.assert_array_equal(np.stack([x[1], y[1]], axis=-1), nodes)
    rho, u, v, p, mach = q[1]
    np.testing.assert_allclose(mach, np.hypot(u, v) / np.sqrt(1.4 * p / rho))
    loaded = find_record("airfoil_steady").load(tmp_path, 1, 1)
    np.testing.assert_allclose(loaded.tests["test"].y[0, :, 0], mach.ravel(), rtol=1e-6)
