"""Transonic flow around random airfoils, in the files of the Geo-FNO benchmark (arXiv 2207.05209, section 4.1).

Problem: steady Euler equations with gamma 1.4, Mach 0.8 and no angle of attack; the section is a NACA 0012 deformed by
the vertical displacements, uniform on [-0.05, 0.05], of seven of eight control nodes. Grid and solver are described in
`c_grid` and `euler`; the authors' solver is a vertex-centred one of the same order.

The solver's values belong to cells. A node of the file has the mean of the cells around it, across the wake cut too; on
the section the values are extrapolated from the two cells above and the velocity is turned along the wall.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64

from data_pipeline.generate import euler
from data_pipeline.generate.c_grid import c_grid
from data_pipeline.generate.chunks import Samples
from data_pipeline.generate.generator import Generator, Settings

MACH, DISPLACEMENT = 0.8, 0.05
# On the coarsest grids the shock of three profiles in eight moves to and fro between cells for ever, by up to 1.03e-4.
_TOLERANCE, _ITERATIONS, _ACCEPTED = 1e-6, 10_000, 3e-4
_FILES = ("NACA_Cylinder_X.npy", "NACA_Cylinder_Y.npy", "NACA_Cylinder_Q.npy")


def displacements(seed: int, index: int) -> Float64[np.ndarray, "2 4"]:
    """Return the displacements of the control nodes of one sample; the first is zero."""
    drawn = np.random.default_rng([seed, index]).uniform(-DISPLACEMENT, DISPLACEMENT, 7)
    return np.concatenate([[0.0], drawn]).reshape(2, 4)


def solve_flows(
    nodes: Float64[np.ndarray, "B N M 2"], mach: float = MACH, tolerance: float = _TOLERANCE
) -> Float64[np.ndarray, "B 5 N M"]:
    """Return rho, u, v, p and the Mach number at the nodes of some grids of equal size.

    Raises ArithmeticError when a flow does not become steady.
    """
    with jax.enable_x64(True):
        cells, changes, _ = euler.solve(jnp.asarray(nodes, jnp.float64), mach, tolerance, _ITERATIONS)
        cells, changes = np.asarray(cells), np.asarray(changes)
    changes = np.where(np.isfinite(cells).all(axis=(1, 2, 3)) & np.isfinite(changes), changes, np.inf)
    if changes.max() > max(_ACCEPTED, tolerance):
        raise ArithmeticError(f"the flow around airfoil {int(changes.argmax())} of a batch is not steady")
    states = np.stack([node_values(grid, state, mach) for grid, state in zip(nodes, cells, strict=True)])
    rho, u, v, p = np.moveaxis(states, 1, 0)
    return np.concatenate([states, np.sqrt((u**2 + v**2) * rho / (euler.GAMMA * p))[:, None]], axis=1)


def node_values(
    nodes: Float64[np.ndarray, "N M 2"], cells: Float64[np.ndarray, "4 N-1 M-1"], mach: float
) -> Float64[np.ndarray, "4 N M"]:
    """Return rho, u, v, p at the nodes of a C-grid from those of the cells; both sides of the wake cut are equal."""
    wake = nodes.shape[1] - 1
    inside = cells[:, ::-1, 0].copy()
    section = slice(wake, cells.shape[1] - wake)
    inside[:, section] = 2.0 * cells[:, section, 0] - cells[:, section, 1]
    far = np.broadcast_to(np.array([1.0, mach * euler.GAMMA**0.5, 0.0, 1.0])[:, None], inside.shape)
    padded = np.concatenate([inside[..., None], cells, far[..., None]], axis=2)
    padded = np.concatenate([padded[:, :1], padded, padded[:, -1:]], axis=1)
    values = 0.25 * (padded[:, 1:, 1:] + padded[:, 1:, :-1] + padded[:, :-1, 1:] + padded[:, :-1, :-1])
    wall = slice(wake + 1, cells.shape[1] - wake)
    tangent = nodes[wake + 2 : cells.shape[1] - wake + 1, 0] - nodes[wake : cells.shape[1] - wake - 1, 0]
    tangent = (tangent / np.linalg.norm(tangent, axis=1, keepdims=True)).T
    values[1:3, wall, 0] = (values[1:3, wall, 0] * tangent).sum(axis=0) * tangent
    cut = 0.5 * (values[:, : wake + 1, 0] + values[:, : -wake - 2 : -1, 0])
    values[:, : wake + 1, 0], values[:, : -wake - 2 : -1, 0] = cut, cut
    return values


def _solve(cells: int, seed: int, indices: range) -> dict[str, np.ndarray]:
    """Solve the samples together; each stops on its own."""
    nodes = np.stack([c_grid(displacements(seed, index), cells) for index in indices])
    return {"xy": np.moveaxis(nodes, -1, 1), "q": solve_flows(nodes)}


def _export(arrays: Samples, folder: Path) -> None:
    for name, values in zip(_FILES, (arrays["xy"][:, 0], arrays["xy"][:, 1], arrays["q"]), strict=True):
        np.save(folder / name, values)


def _configure(settings: Settings) -> Generator:
    settings.refuse("resolution", "airfoil_steady")
    resolution = settings.resolution or 51
    if resolution < 11 or (resolution - 1) % 5:
        raise ValueError(
            f"resolution, the points outwards, must be a multiple of 5 plus 1, at least 11, for airfoil_steady, "
            f"got {resolution}"
        )
    return Generator(
        name="airfoil_steady",
        folder="Geo-FNO/airfoil/naca",
        files=_FILES,
        num=1200,
        chunk=8,
        solver="Euler equations by cell-centred finite volumes of second order (HLLC, van Albada), in JAX",
        version=1,
        details={
            "X, Y": "nodes of the C-grid as (sample, along the C from below, outwards), float64",
            "Q": "density, velocity along x and y, pressure, Mach number at the nodes, float64",
            "differences": "cell-centred finite volumes, averaged to the nodes; spacing on the section chosen by us",
        },
        solve=partial(_solve, resolution - 1),
        export=_export,
        settings={"resolution": resolution},
        configure=_configure,
        max_workers=1,
    )


GENERATOR = _configure(Settings())
