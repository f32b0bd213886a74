"""Steady plane flows as a finite-element program would leave them: `python flow_around_sections.py --out=DIR`.

The exact potential flow of air around ellipses, or with `--shape=airfoil` airfoils with lift, on triangle meshes: one
.vtu file per case with `p` in Pa and `U` in m/s at the nodes, `wall` for the nodes of the body, and the angle of
attack in degrees as field data. Needs pyvista.
"""

import argparse
from pathlib import Path

import numpy as np
import pyvista as pv

from data_pipeline.custom.example import SHAPES, ring_mesh, solve

DENSITY, SPEED, AMBIENT = 1.2, 20.0, 101325.0


def case(shape: str, number: int) -> pv.UnstructuredGrid:
    """Return the mesh of one case with its fields; coordinates in m."""
    rng = np.random.default_rng((1, number))
    flow = SHAPES[shape](rng)
    ring, triangles = ring_mesh(int(rng.integers(32, 45)), int(rng.integers(12, 17)))
    fields = solve(flow, ring)
    points, velocity = (np.pad(fields[name], [(0, 0), (0, 1)]) for name in ("points", "velocity"))
    mesh = pv.UnstructuredGrid({pv.CellType.TRIANGLE: triangles}, points.astype(np.float64))
    mesh.point_data["p"] = AMBIENT + DENSITY * SPEED**2 / 2 * fields["pressure"].astype(np.float64)
    mesh.point_data["U"] = SPEED * velocity
    mesh.point_data["wall"] = np.isclose(ring[:, 0], 1.0).astype(np.int8)
    mesh.field_data["angle"] = [np.rad2deg(flow.angle)]
    return mesh


def main() -> None:
    """Write the cases, the last sixth of them into test/."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--num", type=int, default=144)
    parser.add_argument("--shape", choices=SHAPES, default="ellipse")
    options = parser.parse_args()
    for number in range(options.num):
        folder = options.out / ("train" if number < options.num - max(1, options.num // 6) else "test")
        folder.mkdir(parents=True, exist_ok=True)
        case(options.shape, number).save(folder / f"{options.shape}_{number:03d}.vtu")


if __name__ == "__main__":
    main()
