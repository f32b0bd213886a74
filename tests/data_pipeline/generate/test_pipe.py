"""Channel flow against exact solutions, conservation of volume, refinement; the files."""

import numpy as np
import pytest
from scipy.integrate import simpson

from data_pipeline.generate import channel_flow, generate, pipe
from data_pipeline.registry import find_record
from tests.numerics import rms_ratio

CURVED = pipe.middle_line(np.array([0.8, -0.5, 0.3, 0.6, 0.2, -0.9, 0.7, 0.4, -0.3]))


def test_straight_pipe_gives_the_parabola_exactly():
    (x, y), (u, v, p) = pipe.solve_pipe(pipe.middle_line(np.zeros(9)), 17)
    np.testing.assert_allclose(u, 0.25 - y**2, atol=1e-12)
    np.testing.assert_allclose(v, 0.0, atol=1e-12)
    np.testing.assert_allclose(p, 2.0 * pipe.VISCOSITY * (10.0 - x), atol=1e-12)


def test_inclined_channel_gives_the_parabola_along_its_axis():
    incline = 0.5
    channel = channel_flow.channel(10.0, 40, 12)
    velocity, pressure = channel_flow.solve(channel, lambda x: np.full_like(x, incline), pipe.inlet, 0.05)
    x, eta = channel.velocity.doflocs
    middle = (x > 4.0) & (x < 6.0)
    np.testing.assert_allclose(velocity[0, middle], pipe.inlet(eta[middle]), atol=2e-4)
    np.testing.assert_allclose(velocity[1, middle], incline * velocity[0, middle], atol=2e-4)
    # grad p = nu (1 + k²) f'' (1, k), hence (1 + k²) times as much along the axis at constant η.
    places = channel.pressure.doflocs
    axis = np.isclose(places[1], 0.0) & (places[0] > 4.0) & (places[0] < 6.0)
    gradient = np.polyfit(places[0, axis], pressure[axis], 1)[0]
    assert gradient == pytest.approx(-2.0 * 0.05 * (1.0 + incline**2) ** 2, rel=1e-3)


def test_middle_line_is_the_cubic_with_the_given_values_and_slopes():
    parameters = np.random.default_rng(0).uniform(-1.0, 1.0, 9)
    line = pipe.middle_line(parameters)
    knots = np.linspace(0.0, 10.0, 5)
    np.testing.assert_allclose(line(knots), [0.0, *parameters[:4]], atol=1e-14)
    np.testing.assert_allclose(line.derivative()(knots) * 2.5, parameters[4:], atol=1e-14)


def test_curved_pipe_keeps_volume_walls_and_inlet():
    (x, y), (u, v, _) = pipe.solve_pipe(CURVED, 65, 2)
    np.testing.assert_allclose(x[:, 0], np.linspace(0.0, 10.0, 65))
    np.testing.assert_allclose(y - CURVED(x), np.broadcast_to(np.linspace(-0.5, 0.5, 65), (65, 65)), atol=1e-14)
    for component in (u, v):
        assert np.abs(component[:, [0, -1]]).max() < 1e-14
    np.testing.assert_allclose(u[0], 0.25 * 4.0 * np.linspace(0, 1, 65) * np.linspace(1, 0, 65), atol=1e-14)
    np.testing.assert_allclose(v[0], 0.0, atol=1e-14)
    assert np.abs(v).max() > 0.03
    np.testing.assert_allclose(simpson(u, dx=1.0 / 64, axis=1), 1.0 / 6.0, rtol=2e-3)


def test_refinement_converges():
    flows = [pipe.solve_pipe(CURVED, 33, refinement)[1] for refinement in (1, 2, 4)]
    errors = [rms_ratio(flow[0], flows[2][0]) for flow in flows[:2]]
    assert errors[0] > 5.0 * errors[1]
    assert errors[1] < 0.01
    assert rms_ratio(flows[1][2], flows[2][2]) < 0.01


def test_files_and_loader(tmp_path):
    folder = generate("pipe", tmp_path, num=3, workers=1, progress=False, resolution=17)
    arrays = [np.load(folder / f"Pipe_{name}.npy") for name in "XYQ"]
    assert [(array.shape, array.dtype.name) for array in arrays] == [
        ((3, 17, 17), "float64"),
        ((3, 17, 17), "float64"),
        ((3, 3, 17, 17), "float64"),
    ]
    parameters = np.random.default_rng([0, 2]).uniform(-1.0, 1.0, 9)
    points, flow = pipe.solve_pipe(pipe.middle_line(parameters), 17)
    np.testing.assert_allclose([arrays[0][2], arrays[1][2]], points)
    assert rms_ratio(arrays[2][2], flow) < 1e-10
    loaded = find_record("pipe").load(tmp_path, 2, 1)
    np.testing.assert_allclose(loaded.tests["test"].y[0, :, 0], flow[0].ravel(), atol=1e-7)
