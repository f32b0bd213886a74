"""Stand-ins with the files of NASA-CRM: superellipsoids in the place of the aircraft, formulas in that of the flow.

Of the shape of the data only: a body and its nodes that are the same in all samples, six conditions, four coefficients.
The nodes are fewer than those of the public files, whose 454 404 would take 3.5 GB.
"""

from pathlib import Path

import h5py
import numpy as np

from data_pipeline.generate.bodies import Superellipsoid, pressure_coefficient, wall_shear
from data_pipeline.generate.chunks import Samples
from data_pipeline.generate.generator import Generator
from data_pipeline.generate.splits import held_out
from data_pipeline.pde.nasa_crm import CONDITIONS, COORDINATES, FOLDER, N_TEST, N_TRAIN, NORMALS, TARGETS, TEST, TRAIN

POINTS = 4096
_LOW, _HIGH = (0.70, -2.0, -10.0, -10.0, -2.0, -10.0), (0.87, 6.0, 10.0, 10.0, 2.0, 10.0)
_BODY = Superellipsoid(np.zeros(3), np.array([30.0, 3.0, 3.0]), 2.5)
_WIND, _UP = 0, 2


def solve_sample(seed: int, index: int) -> dict[str, np.ndarray]:
    """Return nodes, unit normals, conditions and coefficients of one sample."""
    directions = np.random.default_rng(seed).standard_normal((POINTS, 3))
    points = _BODY.surface(directions)
    normals = _BODY.normals(points)
    conditions = np.random.default_rng([seed, index]).uniform(_LOW, _HIGH)
    mach, angle, *deflections = conditions
    turned = _turned(normals, np.deg2rad(angle))
    pressure = pressure_coefficient(turned, _WIND, _UP, 1.1 + mach)
    # Control surfaces add suction at the back, each in a quarter of it.
    quarter = np.minimum(4 * (np.arctan2(points[:, 2], points[:, 1]) + np.pi) / (2 * np.pi), 3).astype(int)
    pressure -= 0.02 * np.where(points[:, 0] > 10.0, np.asarray(deflections)[quarter], 0.0)
    fields = np.concatenate([pressure[:, None], wall_shear(turned, _WIND)], axis=1)
    single = {"points": points, "normals": normals, "conditions": conditions, "fields": fields}
    return {name: value.astype(np.float32) for name, value in single.items()}


def _turned(normals: np.ndarray, angle: float) -> np.ndarray:
    """Return the normals as the wind sees them at an angle of attack."""
    x, y, z = normals.T
    return np.stack([np.cos(angle) * x + np.sin(angle) * z, y, np.cos(angle) * z - np.sin(angle) * x], axis=1)


def _solve(seed: int, indices: range) -> dict[str, np.ndarray]:
    samples = [solve_sample(seed, index) for index in indices]
    return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}


def _export(arrays: Samples, folder: Path) -> None:
    train = arrays.num - held_out(arrays.num, N_TEST, N_TRAIN + N_TEST)
    with h5py.File(folder / TRAIN, "w") as training, h5py.File(folder / TEST, "w") as test:
        for number, sample in enumerate(arrays.rows()):
            group = (training if number < train else test).create_group(f"sample_{number:04d}")
            for names, part in ((COORDINATES, "points"), (NORMALS, "normals"), (TARGETS, "fields")):
                for name, column in zip(names, sample[part].T, strict=True):
                    group[name] = column
            group.attrs.update(dict(zip(CONDITIONS, map(float, sample["conditions"]), strict=True)))


GENERATOR = Generator(
    name="nasa_crm",
    folder=str(FOLDER),
    files=(TRAIN, TEST),
    num=N_TRAIN + N_TEST,
    chunk=20,
    solver="SYNTHETIC STAND-IN: a superellipsoid with formulas for the coefficients, no flow simulation",
    version=1,
    details={
        "arrays": f"{POINTS} nodes, unit normals, formulas for pressure and friction coefficients, float32",
        "attributes": "six random conditions",
        "split": f"the last {N_TEST} in {N_TRAIN + N_TEST} samples are in {TEST}, the others in {TRAIN}",
    },
    solve=_solve,
    export=_export,
)
