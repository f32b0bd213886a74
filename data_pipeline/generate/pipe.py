"""Steady flow through a curved pipe, in the files of the Geo-FNO benchmark (arXiv 2207.05209, section 4.1).

The pipe is ten units long and one high; its middle line is a random piecewise cubic. The flow enters with the parabola
0.25 · 4 t (1 - t) of the published velocities, sticks to the walls and leaves freely; the viscosity is 0.005, so that
the Reynolds number of the mean velocity is 33. The solver is described in `channel_flow`.

The file has the velocity at the nodes of the elements and between them along y by the elements' own polynomials. The
outlet condition nu du/dn = p n is that of the Laplacian form of the equations.
"""

from functools import cache, partial
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from scipy import sparse
from scipy.interpolate import CubicHermiteSpline

from data_pipeline.generate import channel_flow
from data_pipeline.generate.chunks import Samples
from data_pipeline.generate.generator import Generator, Settings

LENGTH, VISCOSITY, INLET = 10.0, 0.005, 0.25
PIECES = 4
# Points of the stored grid per element, along and across.
_ALONG, _ACROSS = 2, 8
_FILES = ("Pipe_X.npy", "Pipe_Y.npy", "Pipe_Q.npy")


def middle_line(parameters: Float64[np.ndarray, "9"]) -> CubicHermiteSpline:
    """Return d(x), a cubic on each of four equal pieces, from four values and five slopes, all within [-1, 1].

    The value at the inlet is zero; the slopes are per piece, not per unit of length.
    """
    knots = np.linspace(0.0, LENGTH, PIECES + 1)
    values = np.concatenate([[0.0], parameters[:PIECES]])
    return CubicHermiteSpline(knots, values, parameters[PIECES:] * PIECES / LENGTH)


def inlet(eta: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """Return the velocity at the inlet, at heights -1/2 to 1/2 above the middle line."""
    return INLET * (1.0 - 4.0 * eta**2)


def solve_pipe(
    line: CubicHermiteSpline, resolution: int, refinement: int = 1
) -> tuple[Float64[np.ndarray, "2 N N"], Float64[np.ndarray, "3 N N"]]:
    """Return x, y and u_x, u_y, p on resolution² points, the first axis along the pipe and the second upwards."""
    channel = _channel(resolution, refinement)
    velocity, pressure = channel_flow.solve(channel, line.derivative(), inlet, VISCOSITY)
    x, eta = np.meshgrid(np.linspace(0, LENGTH, resolution), np.linspace(-0.5, 0.5, resolution), indexing="ij")
    to_velocity, to_pressure = _probes(resolution, refinement)
    flow = [to_velocity @ velocity[0], to_velocity @ velocity[1], to_pressure @ pressure]
    return np.array([x, eta + line(x)]), np.array(flow).reshape(3, resolution, resolution)


@cache
def _channel(resolution: int, refinement: int) -> channel_flow.Channel:
    return channel_flow.channel(
        LENGTH, refinement * (resolution - 1) // _ALONG, refinement * (resolution - 1) // _ACROSS
    )


@cache
def _probes(resolution: int, refinement: int) -> tuple[sparse.csr_matrix, ...]:
    """Return the matrices from the degrees of freedom of velocity and pressure to values at the stored points."""
    x, eta = np.meshgrid(np.linspace(0, LENGTH, resolution), np.linspace(-0.5, 0.5, resolution), indexing="ij")
    points = np.array([x.ravel(), eta.ravel()])
    channel = _channel(resolution, refinement)
    # Locating all points at once would take a gigabyte.
    parts = np.array_split(points, resolution, axis=1)
    return tuple(
        sparse.vstack([basis.probes(part) for part in parts], format="csr")
        for basis in (channel.velocity, channel.pressure)
    )


def _solve(resolution: int, refinement: int, seed: int, indices: range) -> dict[str, np.ndarray]:
    points, flows = [], []
    for index in indices:
        line = middle_line(np.random.default_rng([seed, index]).uniform(-1.0, 1.0, 2 * PIECES + 1))
        xy, flow = solve_pipe(line, resolution, refinement)
        points.append(xy)
        flows.append(flow)
    return {"xy": np.stack(points), "q": np.stack(flows)}


def _export(arrays: Samples, folder: Path) -> None:
    for name, values in zip(_FILES, (arrays["xy"][:, 0], arrays["xy"][:, 1], arrays["q"]), strict=True):
        np.save(folder / name, values)


def _configure(settings: Settings) -> Generator:
    settings.refuse("resolution refinement", "pipe")
    resolution, refinement = settings.resolution or 129, settings.refinement or 1
    if resolution < 17 or (resolution - 1) % _ACROSS:
        raise ValueError(f"resolution must be a multiple of 8 plus 1, at least 17, for pipe, got {resolution}")
    return Generator(
        name="pipe",
        folder="Geo-FNO/pipe",
        files=_FILES,
        num=1200,
        chunk=4,
        solver="steady Navier-Stokes with Taylor-Hood elements, Newton's method, sparse direct solves",
        version=1,
        details={
            "X, Y": "points as (sample, along the pipe, upwards), float64",
            "Q": "velocity along x and y, and pressure, float64",
            "elements": f"{refinement * (resolution - 1) // _ALONG} x {refinement * (resolution - 1) // _ACROSS}",
        },
        solve=partial(_solve, resolution, refinement),
        export=_export,
        settings={"resolution": resolution, "refinement": refinement},
        configure=_configure,
    )


GENERATOR = _configure(Settings())
