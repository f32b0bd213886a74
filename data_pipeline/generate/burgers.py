"""Viscous Burgers' equation on the circle, in the file of the Fourier neural operator (arXiv 2010.08895, section 5.1).

Problem: u_t + (u²/2)_x = 0.1 u_xx on [0, 1) with periodic ends; given is u at t = 0, a Gaussian field of zero mean with
covariance 625 (-d²/dx² + 25)^-2, sought is u at t = 1.

The solver keeps the Fourier modes up to a third of 1024 points, whatever the resolution: at this viscosity the solution
holds nothing beyond. Diffusion is integrated exactly, the rest by the classical fourth-order Runge-Kutta method.
"""

from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Complex128, Float64
from scipy.io import savemat

from data_pipeline.generate.chunks import Samples
from data_pipeline.generate.generator import Generator, Settings

VISCOSITY = 0.1
_SIGMA, _INVERSE_LENGTH, _POWER = 25.0, 5.0, 2.0
_POINTS, _STEPS = 1024, 1000
_BAND = (_POINTS - 1) // 3
_FILE = "burgers_data_R10.mat"


def initial_spectrum(seed: int, index: int, modes: int) -> Complex128[np.ndarray, "M"]:
    """Return the Fourier coefficients 0 to `modes` of u at t = 0; real u is twice the real part of their sum."""
    wave = 2.0 * np.pi * np.arange(1, modes + 1)
    cosine, sine = np.random.default_rng([seed, index]).standard_normal((modes, 2)).T
    scale = _SIGMA * (wave**2 + _INVERSE_LENGTH**2) ** (-_POWER / 2.0) / np.sqrt(2.0)
    return np.concatenate([[0.0], scale * (cosine - 1j * sine)])


def advance(
    spectrum: Complex128[np.ndarray, "B M"], viscosity: float, time: float, steps: int
) -> Complex128[np.ndarray, "B N"]:
    """Return the Fourier coefficients after `time`; modes beyond a third of 1024 points are left out."""
    wave = 2j * np.pi * np.arange(_BAND + 1)
    step = time / steps
    half = np.exp(-0.5 * step * viscosity * wave.imag**2)

    def tendency(state: np.ndarray) -> np.ndarray:
        field = np.fft.irfft(state, _POINTS, norm="forward")
        return -0.5 * wave * np.fft.rfft(field**2, norm="forward")[..., : _BAND + 1]

    state = np.zeros((len(spectrum), _BAND + 1), np.complex128)
    kept = min(_BAND + 1, spectrum.shape[1])
    state[:, :kept] = spectrum[:, :kept]
    for _ in range(steps):
        first = tendency(state)
        second = tendency(half * (state + 0.5 * step * first))
        third = tendency(half * state + 0.5 * step * second)
        fourth = tendency(half * (half * state + step * third))
        state = half * half * state + step / 6.0 * (half * (half * first + 2.0 * (second + third)) + fourth)
    return state


def _values(spectrum: Complex128[np.ndarray, "B M"], points: int) -> Float64[np.ndarray, "B N"]:
    return np.fft.irfft(spectrum, points, norm="forward")


def _solve(resolution: int, seed: int, indices: range) -> dict[str, np.ndarray]:
    modes = max(_BAND, (resolution - 1) // 2)
    initial = np.stack([initial_spectrum(seed, index, modes) for index in indices])
    final = advance(initial, VISCOSITY, 1.0, _STEPS)
    if not np.isfinite(final).all():
        raise ArithmeticError(f"the solution of a sample among {indices} of seed {seed} is not finite")
    shown = (resolution - 1) // 2 + 1
    return {"a": _values(initial[:, :shown], resolution), "u": _values(final[:, :shown], resolution)}


def _export(arrays: Samples, folder: Path) -> None:
    savemat(folder / _FILE, {"a": arrays["a"], "u": arrays["u"]})


def _configure(settings: Settings) -> Generator:
    settings.refuse("resolution", "burgers")
    resolution = settings.resolution or 8192
    if resolution < 64:
        raise ValueError(f"resolution must be at least 64 points for burgers, got {resolution}")
    return Generator(
        name="burgers",
        folder="FNO/burgers",
        files=(_FILE,),
        num=2048,
        chunk=32,
        solver="pseudo-spectral with integrating-factor Runge-Kutta 4",
        version=1,
        details={
            "a": "u at t = 0 at the points i / resolution, float64",
            "u": "u at t = 1, float64",
            "differences": "the covariance of the initial field is the paper's; the public file holds further arrays",
        },
        solve=partial(_solve, resolution),
        export=_export,
        settings={"resolution": resolution},
        configure=_configure,
    )


GENERATOR = _configure(Settings())
