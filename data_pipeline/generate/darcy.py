"""Darcy flow through a medium of two permeabilities, in the files of the Fourier neural operator (arXiv 2010.08895).

Problem: -div(a grad u) = 1 on the unit square, u = 0 on its sides. The permeability a is 12 where a Gaussian field with
covariance (-Laplacian + 9)^-2 and zero Neumann conditions is positive, and 3 elsewhere (appendix A.3).

Discretisation: the five-point scheme with the arithmetic mean of the permeability on the faces, on nodes i / (s - 1).
The linear systems are solved by conjugate gradients, preconditioned with the Laplacian of constant permeability, which
the sine transform inverts: the number of iterations depends on the contrast 12 / 3 alone, about 25 for ten digits.

The authors' program interpolates the permeability from the cell centres, where the cosine transform puts its field, to
the nodes by splines, and the solution back. Both steps are left out: the thresholded field counts as nodal values, so
that the permeability stays at its two values and the solution is zero on the sides.
"""

from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from scipy.fft import dstn, idctn
from scipy.io import savemat
from scipy.sparse.linalg import LinearOperator, cg

from data_pipeline.generate import gaussian_field
from data_pipeline.generate.chunks import Samples
from data_pipeline.generate.generator import Generator, Settings
from data_pipeline.generate.splits import held_out

PERMEABILITIES = (3.0, 12.0)
_INVERSE_LENGTH, _POWER = 3.0, 2.0
_RESIDUAL, _ITERATIONS = 1e-10, 200
_TRAIN_FILE, _TEST_FILE = "piececonst_r421_N1024_smooth1.mat", "piececonst_r421_N1024_smooth2.mat"


def permeability(seed: int, index: int, side: int) -> Float64[np.ndarray, "N N"]:
    """Return the permeability of one sample on side × side nodes; the scale of the field does not matter."""
    p, q = gaussian_field.quadrant(side)
    normal = np.random.default_rng([seed, index]).standard_normal(side * side)
    spectrum = np.zeros((side, side))
    spectrum[p, q] = normal * (np.pi**2 * (p**2 + q**2) + _INVERSE_LENGTH**2) ** (-_POWER / 2.0)
    spectrum[0, 0] = 0.0
    low, high = PERMEABILITIES
    return np.where(idctn(spectrum, norm="ortho") >= 0.0, high, low)


def solve_pressure(coefficient: Float64[np.ndarray, "N N"], source: Float64[np.ndarray, "N N"] | float = 1.0) -> (
    Float64[np.ndarray, "N N"]
):  # fmt: skip
    """Return the solution u of -div(a grad u) = f with u = 0 on the sides of the unit square.

    Arguments: `coefficient`, positive nodal values of a, the sides included; `source`, nodal values of f.
    Raises ArithmeticError when the iteration does not converge.
    """
    spacing = 1.0 / (len(coefficient) - 1)
    inner = len(coefficient) - 2
    # Face i lies between the nodes i and i + 1 of its direction.
    down = 0.5 * (coefficient[1:, 1:-1] + coefficient[:-1, 1:-1])
    across = 0.5 * (coefficient[1:-1, 1:] + coefficient[1:-1, :-1])
    wave = 4.0 * np.sin(0.5 * np.pi * spacing * np.arange(1, inner + 1)) ** 2
    # The sine transform of type 1 is its own inverse up to this factor.
    inverse = 1.0 / ((wave[:, None] + wave) * (2.0 * (inner + 1)) ** 2)

    def operator(vector: np.ndarray) -> np.ndarray:
        padded = np.pad(vector.reshape(inner, inner), 1)
        flux_down = down * np.diff(padded[:, 1:-1], axis=0)
        flux_across = across * np.diff(padded[1:-1], axis=1)
        return -(np.diff(flux_down, axis=0) + np.diff(flux_across, axis=1)).ravel()

    def precondition(vector: np.ndarray) -> np.ndarray:
        return dstn(dstn(vector.reshape(inner, inner), type=1) * inverse, type=1).ravel()

    shape = (inner * inner, inner * inner)
    load = np.broadcast_to(source, coefficient.shape)[1:-1, 1:-1].ravel() * spacing**2
    solution, failed = cg(
        LinearOperator(shape, operator, dtype=np.float64),
        load,
        rtol=_RESIDUAL,
        maxiter=_ITERATIONS,
        M=LinearOperator(shape, precondition, dtype=np.float64),
    )
    if failed:
        raise ArithmeticError(f"conjugate gradients did not converge in {_ITERATIONS} iterations on {inner}² nodes")
    return np.pad(solution.reshape(inner, inner), 1)


def _solve(resolution: int, refinement: int, seed: int, indices: range) -> dict[str, np.ndarray]:
    side = (resolution - 1) * refinement + 1
    high, pressure = [], []
    for index in indices:
        coefficient = permeability(seed, index, side)
        high.append(coefficient[::refinement, ::refinement] == PERMEABILITIES[1])
        pressure.append(solve_pressure(coefficient)[::refinement, ::refinement])
    return {"high": np.stack(high), "sol": np.stack(pressure)}


def _export(arrays: Samples, folder: Path) -> None:
    num = len(arrays["high"])
    train = num - held_out(num, 200, 1200)
    for name, rows in ((_TRAIN_FILE, slice(0, train)), (_TEST_FILE, slice(train, None))):
        coefficient = np.where(arrays["high"][rows], PERMEABILITIES[1], PERMEABILITIES[0])
        savemat(folder / name, {"coeff": coefficient, "sol": arrays["sol"][rows]})


def _configure(settings: Settings) -> Generator:
    settings.refuse("resolution refinement", "darcy")
    resolution, refinement = settings.resolution or 421, settings.refinement or 1
    if resolution < 5:
        raise ValueError(f"resolution must be at least 5 points per side for darcy, got {resolution}")
    return Generator(
        name="darcy",
        folder="FNO/darcy",
        files=(_TRAIN_FILE, _TEST_FILE),
        num=1200,
        chunk=10,
        solver="five-point scheme, conjugate gradients preconditioned with the constant-coefficient Laplacian",
        version=1,
        details={
            "coeff": "permeability, 3 or 12, at the nodes including the sides, float64",
            "sol": "pressure at the nodes, zero on the sides, float64",
            "split": "the first five sixths of the samples are in the file smooth1, the rest in smooth2",
            "differences": "no spline interpolation between cell centres and nodes; no Kcoeff, Kcoeff_x, Kcoeff_y; "
            "the file names keep r421 and N1024 whatever the resolution and number",
        },
        solve=partial(_solve, resolution, refinement),
        export=_export,
        settings={"resolution": resolution, "refinement": refinement},
        configure=_configure,
    )


GENERATOR = _configure(Settings())
