"""Burgers' equation against the exact solution of Cole and Hopf, its order and conservation; the file."""

import numpy as np
import pytest
from scipy.io import loadmat

from data_pipeline.generate import burgers, generate
from tests.numerics import rms_ratio

X = np.arange(256) / 256


def _exact(time, viscosity):
    """Return u = -2 nu phi_x / phi, where phi solves the heat equation."""
    wave = 0.9 * np.exp(-4.0 * np.pi**2 * viscosity * time)
    return 4.0 * np.pi * viscosity * wave * np.sin(2.0 * np.pi * X) / (1.0 + wave * np.cos(2.0 * np.pi * X))


def _advance(values, viscosity, time, steps):
    spectrum = burgers.advance(np.fft.rfft(values, norm="forward")[None], viscosity, time, steps)
    return np.fft.irfft(spectrum[:, :129], 256, norm="forward")[0]


def test_exact_solution():
    assert rms_ratio(_advance(_exact(0.0, 0.05), 0.05, 0.4, 400), _exact(0.4, 0.05)) < 1e-9
    assert rms_ratio(_exact(0.4, 0.05), _exact(0.0, 0.05)) > 0.3


def test_fourth_order_in_time():
    start = np.sin(2.0 * np.pi * X)
    best, coarse, fine = (_advance(start, 0.05, 0.2, steps) for steps in (400, 20, 40))
    assert np.log2(rms_ratio(coarse, best) / rms_ratio(fine, best)) == pytest.approx(4.0, abs=0.3)


def test_initial_field_has_the_covariance_of_the_paper():
    fields = np.stack([burgers.initial_spectrum(0, index, 64) for index in range(4000)])
    wave = 2.0 * np.pi * np.arange(1, 65)
    expected = (25.0 / (wave**2 + 25.0)) ** 2
    np.testing.assert_allclose((np.abs(fields[:, 1:5]) ** 2).mean(axis=0), expected[:4], rtol=0.1)
    assert (fields[:, 0] == 0.0).all()
    longer = burgers.initial_spectrum(0, 7, 128)
    np.testing.assert_array_equal(longer[:65], fields[7])


def test_file_mean_and_decay(tmp_path):
    folder = generate("burgers", tmp_path, num=3, workers=1, progress=False, resolution=64)
    arrays = loadmat(folder / "burgers_data_R10.mat")
    for name in ("a", "u"):
        assert arrays[name].shape == (3, 64)
        assert arrays[name].dtype == np.float64
        np.testing.assert_allclose(arrays[name].mean(axis=1), 0.0, atol=1e-15)
    assert (np.linalg.norm(arrays["u"], axis=1) < 0.5 * np.linalg.norm(arrays["a"], axis=1)).all()
    # At the end the longest wave is left: it has decayed by exp(-4 pi² nu) at least from a size of order one.
    assert 1e-4 < np.abs(arrays["u"]).max() < 0.05
