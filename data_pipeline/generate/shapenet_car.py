"""Stand-ins with the files of ShapeNet-Car: artificial bodies and pressures, no simulation.

A body is the surface of a box of 16 x 16 x 48 cells, which has the 3586 points of the public meshes, drawn onto a
superellipsoid with a hump for the cabin. The pressure is the formula of `bodies`. Like the public files these hold 96
points that no quadrilateral uses.
"""

from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int

from data_pipeline.generate.bodies import Superellipsoid, pressure_coefficient
from data_pipeline.generate.chunks import Samples
from data_pipeline.generate.generator import Generator
from data_pipeline.pde.shapenet_car import CASES, FILES, MESH_FILE, PRESSURE_FILE

DYNAMIC_PRESSURE = 120.0  # Pa; chosen to give the public mean and deviation roughly
BOX = (16, 16, 48)
_UNUSED, _UNUSED_FROM = 96, 16
_UP, _WIND = 1, 2


@cache
def box_surface() -> tuple[Float64[np.ndarray, "N 3"], Int[np.ndarray, "M 4"]]:
    """Return the 3586 points on the surface of the box [-1, 1]³ and its quadrilaterals, anticlockwise from outside."""
    lattice = np.stack(np.meshgrid(*[np.arange(size + 1) for size in BOX], indexing="ij"), axis=-1).reshape(-1, 3)
    points = lattice[((lattice == 0) | (lattice == BOX)).any(axis=1)]
    number = {tuple(point): index for index, point in enumerate(points)}
    quads = []
    for axis in range(3):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        for level in (0, BOX[axis]):
            for a in range(BOX[first]):
                for b in range(BOX[second]):
                    corners = np.zeros((4, 3), int)
                    corners[:, axis] = level
                    corners[:, first] = a + np.array([0, 1, 1, 0])
                    corners[:, second] = b + np.array([0, 0, 1, 1])
                    quads.append([number[tuple(corner)] for corner in (corners if level else corners[::-1])])
    return 2.0 * points / BOX - 1.0, np.array(quads)


def shape(rng: np.random.Generator) -> Float64[np.ndarray, "N 3"]:
    """Return the points of a random body in m: x across, y up, z along the wind."""
    box, _ = box_surface()
    width, height, length = rng.uniform((0.75, 0.45, 1.9), (0.95, 0.6, 2.4))
    hull = Superellipsoid(np.array([0.0, height, 0.0]), np.array([width, height, length]), rng.uniform(3.0, 6.0))
    points = hull.surface(box)
    place, long, tall = rng.uniform((-0.2, 0.7, 0.35), (0.4, 1.2, 0.6))
    above = np.clip((points[:, 1] - height) / height, 0.0, 1.0)
    points[:, 1] += tall * above * np.exp(-(((points[:, 2] - place) / long) ** 4))
    points[:, 0] *= 1.0 - 0.25 * above
    return points


def vertex_normals(points: Float64[np.ndarray, "N 3"], quads: Int[np.ndarray, "M 4"]) -> Float64[np.ndarray, "N 3"]:
    """Return outer unit normals at the points, the mean of those of the quadrilaterals around weighted by area."""
    corners = points[quads]
    areas = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    normals = np.stack(
        [np.bincount(quads.ravel(), np.repeat(areas[:, axis], 4), minlength=len(points)) for axis in range(3)], axis=1
    )
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def solve_case(seed: int, index: int) -> dict[str, np.ndarray]:
    """Return the points of one case, the unused ones included, and the pressure there in Pa."""
    rng = np.random.default_rng([seed, index])
    points = shape(rng)
    _, quads = box_surface()
    speed_up = 1.0 + 0.6 * points[:, _UP].max() / points[:, _WIND].max()
    pressure = DYNAMIC_PRESSURE * pressure_coefficient(vertex_normals(points, quads), _WIND, _UP, speed_up)
    return {
        "points": np.insert(points, [_UNUSED_FROM] * _UNUSED, 0.0, axis=0).astype(np.float32),
        "press": np.insert(pressure, [_UNUSED_FROM] * _UNUSED, 0.0).astype(np.float32),
    }


def _solve(seed: int, indices: range) -> dict[str, np.ndarray]:
    cases = [solve_case(seed, index) for index in indices]
    return {name: np.stack([case[name] for case in cases]) for name in cases[0]}


def _export(arrays: Samples, folder: Path) -> None:
    """Write the cases evenly over the folders param0 to param8, in their order."""
    _, quads = box_surface()
    quads = np.where(quads >= _UNUSED_FROM, quads + _UNUSED, quads)
    for name in FILES:
        (folder / name).mkdir(exist_ok=True)
    for number, case in enumerate(arrays.rows()):
        place = folder / FILES[number * len(FILES) // arrays.num] / f"synthetic_{number:06d}"
        place.mkdir(exist_ok=True)
        (place / MESH_FILE).write_text(_vtk(case["points"], quads))
        np.save(place / PRESSURE_FILE, case["press"])


def _vtk(points: np.ndarray, quads: np.ndarray) -> str:
    """Return a mesh of quadrilaterals as a legacy VTK file."""
    lines = ["# vtk DataFile Version 2.0", "synthetic stand-in", "ASCII", "DATASET UNSTRUCTURED_GRID"]
    lines += [f"POINTS {len(points)} float", *(f"{x:.6f} {y:.6f} {z:.6f}" for x, y, z in points)]
    lines += [f"CELLS {len(quads)} {5 * len(quads)}", *(f"4 {a} {b} {c} {d}" for a, b, c, d in quads)]
    return "\n".join([*lines, f"CELL_TYPES {len(quads)}", *["9"] * len(quads)]) + "\n"


GENERATOR = Generator(
    name="shapenet_car",
    folder="ShapeNet-Car",
    files=FILES,
    num=CASES,
    chunk=20,
    solver="SYNTHETIC STAND-IN: superellipsoids with a formula for the pressure, no flow simulation",
    version=1,
    details={
        MESH_FILE: "legacy VTK, 3682 points of which 96 are unused, 3584 quadrilaterals, m",
        PRESSURE_FILE: "formula for the pressure in Pa at the points, float32",
        "split": "cases are in their order; the public list of test cases does not apply",
    },
    solve=_solve,
    export=_export,
)
