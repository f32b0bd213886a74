"""Vorticity of a forced flow on the unit torus, in the file of the Fourier neural operator (arXiv 2010.08895).

Problem (section 5.3 and the authors' program): viscosity 1e-5, forcing 0.1 (sin 2π(x + y) + cos 2π(x + y)), a random
initial vorticity of zero mean and standard deviation 0.262 (spectrum (4π²|k|² + 49)^-1.25), recorded at t = 1, ..., 20.
The program's scale of the initial field is kept; the covariance printed in the paper would make it six times smaller.

The authors step with Crank-Nicolson and explicit Euler on 256² points and keep every fourth. The grid is the same here
by default, but the fourth-order method (`vorticity`) allows fifty times the step. The flow amplifies small errors: on
64² points, by t = 20, those of the time step grow to 3e-4 of the field and those of single precision to 1e-4.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.io import savemat

from data_pipeline.generate import gaussian_field
from data_pipeline.generate.chunks import Samples
from data_pipeline.generate.generator import Generator, Settings
from data_pipeline.generate.vorticity import band, simulate

VISCOSITY, RECORDS = 1e-5, 20
_POWER, _INVERSE_LENGTH = 2.5, 7.0
# Time steps per unit of time and point of a side: a speed of 1 crosses 1.28 cells per step, far below the limit.
_STEPS_PER_POINT, _FEWEST_STEPS = 0.78125, 50
_FILE = "NavierStokes_V1e-5_N1200_T20.mat"


def initial_vorticity(seed: int, index: int, side: int) -> Float[np.ndarray, "N N"]:
    """Return the vorticity of one sample at time 0 at the points i / side, in the modes that the solver keeps."""
    kx, ky = gaussian_field.plane(band(side))
    normal = np.random.default_rng([seed, index]).standard_normal((kx.size, 2))
    scale = _INVERSE_LENGTH ** (_POWER - 1.0) * np.sqrt(2.0)
    spectrum = np.zeros((side, side), np.complex128)
    spectrum[kx, ky] = (normal[:, 0] + 1j * normal[:, 1]) * (
        scale * (4.0 * np.pi**2 * (kx**2 + ky**2) + _INVERSE_LENGTH**2) ** (-_POWER / 2.0)
    )
    return np.fft.ifft2(spectrum, norm="forward").real


def forcing(side: int) -> Float[np.ndarray, "N N"]:
    """Return the forcing at the points i / side."""
    phase = 2.0 * np.pi * np.add.outer(np.arange(side), np.arange(side)) / side
    return 0.1 * (np.sin(phase) + np.cos(phase))


def _solve(side: int, stride: int, precision: str, seed: int, indices: range) -> dict[str, np.ndarray]:
    """Simulate the samples together; they do not interact."""
    initial = np.stack([initial_vorticity(seed, index, side) for index in indices])
    steps = max(_FEWEST_STEPS, round(_STEPS_PER_POINT * side))
    with jax.enable_x64(precision == "float64"):
        start = jnp.asarray(initial, precision)
        frames = np.asarray(simulate(start, jnp.asarray(forcing(side), precision), VISCOSITY, steps, RECORDS))
    if not np.isfinite(frames).all():
        raise ArithmeticError(f"the vorticity of a sample among {indices} of seed {seed} is not finite")
    kept = np.moveaxis(frames[:, :, ::stride, ::stride], 1, -1)
    return {"a": initial[:, ::stride, ::stride].astype(np.float32), "u": kept.astype(np.float32)}


def _export(arrays: Samples, folder: Path) -> None:
    times = np.arange(1.0, RECORDS + 1.0, dtype=np.float32)[None]
    savemat(folder / _FILE, {"a": arrays["a"], "u": arrays["u"], "t": times})


def _configure(settings: Settings) -> Generator:
    settings.refuse("resolution refinement precision", "navier_stokes")
    resolution, refinement = settings.resolution or 64, settings.refinement or 4
    precision = settings.precision or "float32"
    side = resolution * refinement
    if side < 8:
        raise ValueError(f"resolution times refinement must be at least 8 for navier_stokes, got {side}")
    return Generator(
        name="navier_stokes",
        folder="FNO/navier_stokes",
        files=(_FILE,),
        num=1200,
        chunk=10,
        solver="pseudo-spectral with integrating-factor Runge-Kutta 4",
        version=1,
        details={
            "u": "vorticity at t = 1, ..., 20 as (sample, x, y, time), float32",
            "a": "vorticity at t = 0, float32",
            "grid": f"simulated on {side} x {side} points, of which every {refinement}-th is kept",
            "differences": "initial vorticity and solution hold the modes below a third of the grid's points only",
        },
        solve=partial(_solve, side, refinement, precision),
        export=_export,
        settings={"resolution": resolution, "refinement": refinement, "precision": precision},
        configure=_configure,
        max_workers=1,
    )


GENERATOR = _configure(Settings())
