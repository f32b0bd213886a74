"""Stand-ins with the files of the presampled DrivAerML surfaces: artificial bodies and pressures, no simulation.

A body is a hull with a cabin, both superellipsoids of random sizes within the bounds of the public data; the pressure
is the formula of `bodies`, with a dynamic pressure that gives it the public mean and deviation roughly. Points are
drawn in an order that depends on seed and run only: the points of a smaller variant are the first of a larger one.
"""

from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from data_pipeline.generate.bodies import Superellipsoid, pressure_coefficient, wall_shear
from data_pipeline.generate.chunks import Samples
from data_pipeline.generate.generator import Generator
from data_pipeline.generate.splits import held_out
from data_pipeline.pde.drivaerml import HIGH, LOW, N_TEST, N_TRAIN, SIZES

DYNAMIC_PRESSURE = 756.0  # Pa, of air at 38.9 m/s
_WIND, _UP = 0, 2
_DRAWN_TOGETHER, _POINTS_PER_CHUNK = 8192, 400_000
_HULL_SHARE = 0.7


def body(rng: np.random.Generator) -> tuple[Superellipsoid, Superellipsoid]:
    """Return hull and cabin, in m; x points along the wind, z up."""
    length, width, height = rng.uniform((2.2, 0.85, 0.42), (2.5, 1.1, 0.55))
    hull = Superellipsoid(np.array([1.6, 0.0, height - 0.3]), np.array([length, width, height]), rng.uniform(3.0, 5.0))
    roof = rng.uniform(1.05, 1.24)
    place, long, wide = rng.uniform((1.5, 1.0, 0.65), (2.1, 1.4, 0.8))
    base = hull.centre[2] + 0.5 * height
    cabin = Superellipsoid(np.array([place, 0.0, base]), np.array([long, wide, roof - base]), rng.uniform(2.2, 3.5))
    return hull, cabin


def surface_points(
    rng: np.random.Generator, parts: tuple[Superellipsoid, Superellipsoid], count: int
) -> tuple[Float64[np.ndarray, "N 3"], Float64[np.ndarray, "N 3"]]:
    """Return `count` random points on the surface of the union of two bodies and the normals there."""
    points, normals, found = [], [], 0
    while found < count:
        directions = rng.standard_normal((_DRAWN_TOGETHER, 3))
        on_hull = rng.random(_DRAWN_TOGETHER) < _HULL_SHARE
        drawn, facing = np.empty_like(directions), np.empty_like(directions)
        outside = np.empty(_DRAWN_TOGETHER, bool)
        for chosen, part, other in ((on_hull, *parts), (~on_hull, *parts[::-1])):
            drawn[chosen] = part.surface(directions[chosen])
            facing[chosen] = part.normals(drawn[chosen])
            outside[chosen] = other.level(drawn[chosen]) > 1.0
        points.append(drawn[outside])
        normals.append(facing[outside])
        found += int(outside.sum())
    return np.concatenate(points)[:count], np.concatenate(normals)[:count]


def solve_run(seed: int, index: int, count: int) -> dict[str, np.ndarray]:
    """Return the points of one run and the fields there: pressure and three components of wall shear stress, in Pa."""
    rng = np.random.default_rng([seed, index])
    parts = body(rng)
    points, normals = surface_points(rng, parts, count)
    # Blunt bodies divert more air: the square of the speed grows with the height of the roof over the length.
    speed_up = 1.05 + 0.75 * (parts[1].centre[2] + parts[1].sizes[2]) / parts[0].sizes[0]
    pressure = pressure_coefficient(normals, _WIND, _UP, speed_up)[:, None]
    fields = DYNAMIC_PRESSURE * np.concatenate([pressure, wall_shear(normals, _WIND)], axis=1)
    return {
        "surface_mesh_centers": np.clip(points, LOW, HIGH).astype(np.float32),
        "surface_fields": fields.astype(np.float32),
    }


def _solve(count: int, seed: int, indices: range) -> dict[str, np.ndarray]:
    runs = [solve_run(seed, index, count) for index in indices]
    return {name: np.stack([run[name] for run in runs]) for name in runs[0]}


def _export(arrays: Samples, folder: Path) -> None:
    train = arrays.num - held_out(arrays.num, N_TEST, N_TRAIN + N_TEST)
    for name in ("train", "test"):
        (folder / name).mkdir(exist_ok=True)
    for number, run in enumerate(arrays.rows()):
        np.savez(folder / ("train" if number < train else "test") / f"run_{number + 1}.npz", **run)


def _generator(size: str, count: int) -> Generator:
    return Generator(
        name=f"drivaerml_{size}",
        folder=f"DrivAerML/drivaerml_surface_presampled_{size}",
        files=("train", "test"),
        num=N_TRAIN + N_TEST,
        chunk=max(1, min(20, _POINTS_PER_CHUNK // count)),
        solver="SYNTHETIC STAND-IN: superellipsoids with a formula for the pressure, no flow simulation",
        version=1,
        details={
            "surface_mesh_centers": "points on the surface in m, float32",
            "surface_fields": "formula for pressure and three components of wall shear stress in Pa, float32",
            "split": f"the last {N_TEST} in {N_TRAIN + N_TEST} runs are in test, the others in train",
        },
        solve=partial(_solve, count),
        export=_export,
    )


GENERATORS = {size: _generator(size, count) for size, count in SIZES.items()}
