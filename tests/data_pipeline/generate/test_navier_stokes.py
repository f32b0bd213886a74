"""The vorticity solver against exact solutions, an independent one, conservation laws and its order; the files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.io import loadmat

from data_pipeline.generate import generate, navier_stokes, vorticity
from data_pipeline.registry import find_record
from tests.numerics import rms_ratio


def _simulate(initial, forcing=None, viscosity=0.0, steps=20, records=1, precision="float64"):
    """Simulate one field; returns the records as [T, N, N]."""
    with jax.enable_x64(precision == "float64"):
        force = jnp.zeros(initial.shape, precision) if forcing is None else jnp.asarray(forcing, precision)
        return np.asarray(
            vorticity.simulate(jnp.asarray(initial, precision)[None], force, viscosity, steps, records)[0]
        )


def _advective_reference(initial, forcing, viscosity, steps):
    """Return the vorticity at t = 1 by complex transforms and the advective form, without an integrating factor."""
    side = len(initial)
    wave = np.fft.fftfreq(side, 1.0 / side)
    keep = np.logical_and.outer(abs(wave) <= vorticity.band(side), abs(wave) <= vorticity.band(side))
    kx, ky = 2.0 * np.pi * wave[:, None], 2.0 * np.pi * wave
    squared = kx**2 + ky**2
    squared[0, 0] = 1.0

    def rate(w):
        spectrum = np.fft.fft2(w)
        psi = spectrum / squared
        u, v, w_x, w_y = (
            np.fft.ifft2(part).real for part in (1j * ky * psi, -1j * kx * psi, 1j * kx * spectrum, 1j * ky * spectrum)
        )
        diffusion = np.fft.ifft2(-viscosity * (kx**2 + ky**2) * spectrum).real
        return np.fft.ifft2(keep * np.fft.fft2(forcing - u * w_x - v * w_y)).real + diffusion

    w, step = np.fft.ifft2(keep * np.fft.fft2(initial)).real, 1.0 / steps
    for _ in range(steps):
        first = rate(w)
        second = rate(w + 0.5 * step * first)
        third = rate(w + 0.5 * step * second)
        w = w + step / 6.0 * (first + 2.0 * second + 2.0 * third + rate(w + step * third))
    return w


def _energy(field):
    """Return the mean of |u|² / 2."""
    wave = 2.0 * np.pi * np.fft.fftfreq(len(field), 1.0 / len(field))
    squared = np.add.outer(wave**2, wave**2)
    squared[0, 0] = np.inf
    return 0.5 * (np.abs(np.fft.fft2(field, norm="forward")) ** 2 / squared).sum()


def test_vortices_of_taylor_and_green_decay_exponentially():
    x = 2.0 * np.pi * np.arange(16) / 16
    initial = np.outer(np.cos(x), np.cos(x))
    frames = _simulate(initial, viscosity=0.01, records=2)
    decay = np.exp(-8.0 * np.pi**2 * 0.01)
    np.testing.assert_allclose(frames, [decay * initial, decay**2 * initial], atol=1e-12)


def test_agrees_with_an_independent_solver():
    initial = 3.0 * navier_stokes.initial_vorticity(0, 0, 24)
    forcing = navier_stokes.forcing(24)
    expected = _advective_reference(initial, forcing, 1e-3, 200)
    assert rms_ratio(_simulate(initial, forcing, 1e-3, steps=200)[0], expected) < 1e-8
    # Backwards motion would be noticed.
    assert rms_ratio(_simulate(initial, viscosity=1e-3)[0], initial) > 0.05


def test_mean_energy_and_enstrophy_are_conserved_without_viscosity():
    initial = 4.0 * navier_stokes.initial_vorticity(0, 1, 32)
    final = _simulate(initial, steps=100)[0]
    assert rms_ratio(final, initial) > 0.1
    assert abs(final.mean()) < 1e-15
    assert _energy(final) == pytest.approx(_energy(initial), rel=1e-7)
    assert (final**2).mean() == pytest.approx((initial**2).mean(), rel=1e-7)


def test_fourth_order_in_time():
    initial, forcing = 4.0 * navier_stokes.initial_vorticity(0, 2, 24), navier_stokes.forcing(24)
    best, *others = (_simulate(initial, forcing, 1e-3, steps)[0] for steps in (160, 10, 20))
    errors = [rms_ratio(field, best) for field in others]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(4.0, abs=0.4)


def test_single_precision_is_close():
    initial, forcing = navier_stokes.initial_vorticity(0, 0, 32), navier_stokes.forcing(32)
    double, single = (_simulate(initial, forcing, 1e-5, 20, 2, precision) for precision in ("float64", "float32"))
    assert 1e-8 < rms_ratio(single, double) < 1e-5


def test_initial_vorticity_has_the_programs_spread_and_is_the_same_field_on_every_grid():
    variance = np.mean([(navier_stokes.initial_vorticity(0, index, 64) ** 2).mean() for index in range(300)])
    assert np.sqrt(variance) == pytest.approx(0.262, rel=0.03)
    coarse, fine = (navier_stokes.initial_vorticity(1, 2, side) for side in (64, 128))
    assert 0.0 < rms_ratio(coarse, fine[::2, ::2]) < 0.03
    assert abs(fine.mean()) < 1e-15


def test_files_and_loader(tmp_path):
    folder = generate("navier_stokes", tmp_path, num=3, progress=False, resolution=8, refinement=2, workers=2)
    arrays = loadmat(folder / "NavierStokes_V1e-5_N1200_T20.mat")
    shapes = {name: (arrays[name].shape, arrays[name].dtype.name) for name in ("u", "a", "t")}
    assert shapes == {"u": ((3, 8, 8, 20), "float32"), "a": ((3, 8, 8), "float32"), "t": ((1, 20), "float32")}
    np.testing.assert_array_equal(arrays["t"][0], np.arange(1, 21))
    initial = navier_stokes.initial_vorticity(0, 2, 16)
    np.testing.assert_allclose(arrays["a"][2], initial[::2, ::2], rtol=1e-6)
    frames = _simulate(initial, navier_stokes.forcing(16), 1e-5, 50, 3, "float32")
    assert rms_ratio(arrays["u"][2][..., :3], np.moveaxis(frames[:, ::2, ::2], 0, -1)) < 1e-4
    loaded = find_record("navier_stokes").load(tmp_path, 2, 1)
    assert loaded.train.y.shape == (2, 64, 10, 1)
