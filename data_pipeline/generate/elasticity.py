"""Elasticity: stress around a random void in an incompressible sheet, in the files of the Geo-FNO benchmark.

Problem (Geo-FNO, arXiv 2207.05209): unit square with a void in the middle, lower side clamped, traction (0, 100) on the
upper side, the other sides and the void free; incompressible Rivlin-Saunders material with C1 = 1.863e5 and
C2 = 9.79e3. Its shear modulus 2 (C1 + C2) = 3.9e5 is so far above the load that strains stay below 1e-3: the problem is
linear, and the stress independent of the modulus (`plane_stress`).

Plane stress, not plane strain: it is the state of a thin sheet, and the constants belong to the plane-stress law that
is the only form of this material in the finite-element library of the benchmark's authors. In uniaxial tension the von
Mises stress is then the tension itself; plane strain would give 0.87 of it.

Points: the paper speaks of about one hundred quadratic quadrilaterals, and 972 = 9 x 108 suggests that the public
points are their 3 x 3 Gauss points. Here they are those of 36 cells around the void by 3 across, strictly inside the
material. They are not nodes of the finite-element mesh, which is finer: 1440 biquadratic elements that follow the void
and contain the corners of the square. The stress is projected onto the continuous biquadratic fields of that mesh and
read at the points; compared with meshes several times finer its error is about 0.4 % of the field's norm.
"""

from functools import cache, partial
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64

from data_pipeline.generate import plane_stress, unit_cell
from data_pipeline.generate.generator import Generator

TRACTION = (0.0, 100.0)
POINT_COLUMNS, POINT_ROWS = 36, 3
RAYS, RINGS, HALVINGS = 108, 9, 3
OUTLINE_ANGLES = np.linspace(0.0, 2.0 * np.pi, 42)
_TOP, _BOTTOM = 0, 2


def solve_cell(
    grid: unit_cell.OGrid,
    radius: unit_cell.Radius,
    turn: Float64[np.ndarray, "N"],
    depth: Float64[np.ndarray, "N"],
) -> Float64[np.ndarray, "N"]:
    """Return the von Mises stress at points of the cell with the void outline `radius(angles)`.

    Arguments: `grid`, the mesh to solve on; `turn`, `depth`, the points (see `unit_cell`).
    """
    mesh = grid.bend(radius)
    basis = plane_stress.q2_basis(mesh)
    clamped = np.zeros(mesh.doflocs.shape, bool)
    clamped[:, grid.side_nodes(_BOTTOM)] = True
    forces = plane_stress.edge_forces(mesh, grid.side_facets(_TOP), TRACTION)
    stress = plane_stress.nodal_stress(basis, plane_stress.displacement(basis, clamped, forces))
    elements, local = grid.locate(turn, depth)
    return plane_stress.von_mises(plane_stress.interpolate(basis, stress, elements, local))


def coefficients(seed: int, index: int) -> Float64[np.ndarray, "10"]:
    """Return the standard normal coefficients of the void of one sample."""
    return np.random.default_rng([seed, index]).standard_normal(unit_cell.COEFFICIENTS)


def solve_sample(seed: int, index: int) -> dict[str, Float[np.ndarray, "..."]]:
    """Return one sample: points `xy [972, 2]` and stress `sigma [972]`, void `rr [42]`, `theta [10]`."""
    theta = coefficients(seed, index)
    radius = partial(unit_cell.void_radius, theta)
    turn, depth = unit_cell.gauss_points(POINT_COLUMNS, POINT_ROWS)
    sigma = solve_cell(_grid(), radius, turn, depth)
    if not (np.isfinite(sigma).all() and sigma.min() > 0.0):
        raise ArithmeticError(f"the stress of elasticity sample {index} of seed {seed} is not finite and positive")
    xy = unit_cell.place(turn, depth, radius).T
    return {"xy": xy, "sigma": sigma, "rr": radius(OUTLINE_ANGLES), "theta": theta}


def _solve(seed: int, indices: range) -> dict[str, np.ndarray]:
    samples = [solve_sample(seed, index) for index in indices]
    return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}


@cache
def _grid() -> unit_cell.OGrid:
    return unit_cell.graded_grid(RAYS, RINGS, HALVINGS)


def _export(arrays: dict[str, np.ndarray], folder: Path) -> None:
    """Write the four arrays with the axes of the benchmark, where the sample is the last axis except in theta."""
    for name, key in _KEYS.items():
        array = arrays[key] if key == "theta" else np.moveaxis(arrays[key], 0, -1)
        np.save(folder / name, np.ascontiguousarray(array))


_KEYS = {
    "Random_UnitCell_XY_10.npy": "xy",
    "Random_UnitCell_sigma_10.npy": "sigma",
    "Random_UnitCell_rr_10.npy": "rr",
    "Random_UnitCell_theta_10.npy": "theta",
}

GENERATOR = Generator(
    name="elasticity",
    folder="Geo-FNO/elasticity/Meshes",
    files=tuple(_KEYS),
    num=2000,
    chunk=10,
    solver="linear incompressible elasticity in plane stress, Q2 finite elements on an O-grid, sparse direct solve",
    version=1,
    details={
        "sigma": "von Mises stress at the points, float64",
        "XY": "3 x 3 Gauss points of 36 x 3 cells of an O-grid, ordered by angle, then outwards, float64",
        "rr": "void radius at 42 angles from 0 to 2 pi, both ends included, float64",
        "theta": "standard normal coefficients of the void's log-odds radius (cos 1, sin 1, ..., sin 5), float64",
    },
    solve=_solve,
    export=_export,
)
