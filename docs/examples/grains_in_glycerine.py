"""Surfaces with pressure and shear as a flow solver would leave them: `python grains_in_glycerine.py --out=DIR`.

Grains of three different axes, in any position, held in a slow stream of glycerine along x (Stokes flow): one .vtp file
per grain with `p` in Pa, `wallShearStress` in Pa, `Normals` (out of the grain) at the nodes, and the `speed` of the
stream in m/s as field data. The traction on an ellipsoid in Stokes flow is known exactly: it is the force on it, times
the distance of the tangent plane from the centre, over 4π times the product of the axes. Needs pyvista.
"""

import argparse
from pathlib import Path

import numpy as np
import pyvista as pv
from scipy.spatial.transform import Rotation
from scipy.special import elliprd, elliprf

VISCOSITY = 1.4  # Pa s


def stokes_force(axes: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """Return the force in N on an ellipsoid of semi-axes [3] in m in a stream [3] in m/s along these (Oberbeck)."""
    squares, product = axes**2, axes.prod()
    chi = 2 * product * elliprf(*squares)
    alpha = [2 / 3 * product * elliprd(*np.delete(squares, axis), squares[axis]) for axis in range(3)]
    return 16 * np.pi * VISCOSITY * product * velocity / (chi + alpha * squares)


def grain(number: int) -> pv.PolyData:
    """Return the surface of one grain with its fields; coordinates in m."""
    rng = np.random.default_rng((2, number))
    axes = 1e-3 * rng.uniform(1.0, 3.0, 3)
    turn = Rotation.random(rng=rng).as_matrix()
    speed = rng.uniform(1e-3, 1e-2)
    sphere = pv.Sphere(radius=1.0, theta_resolution=int(rng.integers(20, 29)), phi_resolution=int(rng.integers(16, 23)))
    sphere.clear_data()
    on_sphere = np.asarray(sphere.points, np.float64)
    on_sphere /= np.linalg.norm(on_sphere, axis=1, keepdims=True)
    inverse = on_sphere / axes
    distance = 1 / np.linalg.norm(inverse, axis=1, keepdims=True)
    normals = (inverse * distance) @ turn.T
    force = turn @ stokes_force(axes, turn.T @ [speed, 0.0, 0.0])
    traction = force * distance / (4 * np.pi * axes.prod())
    along = np.sum(traction * normals, axis=1, keepdims=True)
    surface = pv.PolyData((on_sphere * axes) @ turn.T, faces=sphere.faces)
    surface.point_data["p"] = -along[:, 0]
    surface.point_data["wallShearStress"] = traction - along * normals
    surface.point_data["Normals"] = normals
    surface.field_data["speed"] = [speed]
    return surface


def main() -> None:
    """Write the grains into one folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--num", type=int, default=120)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for number in range(options.num):
        grain(number).save(options.out / f"grain_{number:03d}.vtp")


if __name__ == "__main__":
    main()
