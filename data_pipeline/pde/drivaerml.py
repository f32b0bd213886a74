"""DrivAerML: mean pressure on the surface of cars, sampled at 10 000 to a million points (arXiv 2408.11969).

One npz file per run, `run_<number>.npz` in the folders train and test, with `surface_mesh_centers` [n, 3] and
`surface_fields` [n, 4]: mean pressure, which is the target, and wall shear stress. Coordinates are scaled to the unit
cube and the pressure is normalised, both by constants. Runs are ordered by number; which of them were read is recorded.
"""

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.custom.sample import Field, Fields
from data_pipeline.dataset import Channels, PDEDataset, Source, Split
from data_pipeline.errors import DataError
from data_pipeline.files import first_samples, matching, read_npz
from data_pipeline.normalizer import Normalizer
from data_pipeline.record import MANY_SUPERNODES, DatasetRecord

SIZES = {
    "10k": 10_000,
    "40k": 40_000,
    "50k": 50_000,
    "100k": 100_000,
    "200k": 200_000,
    "300k": 300_000,
    "400k": 400_000,
    "500k": 500_000,
    "1m": 1_000_000,
}
LOW, HIGH = (-0.9425, -1.1314, -0.3176), (4.1325, 1.1317, 1.2445)
PRESSURE_MEAN, PRESSURE_STD = -229.845718, 269.598572
_FIELD = "mean_surface_pressure"
_PUBLISHED = Fields("surface_mesh_centers", (), (Field("surface_fields", 0, 0, _FIELD),), True)
_OURS = Fields("points", (), (Field(_FIELD),), True)
# How many runs the public folders hold is not known to us, so that these are defaults and no facts.
N_TRAIN, N_TEST = 387, 97


def load(data_dir: Path, n_train: int, n_test: int, size: str) -> PDEDataset:
    """Load the first runs of both folders of the variant with `size` points; raises DataError."""
    folder = data_dir / _folder(size)
    runs = {name: _runs(folder / name, count) for name, count in (("train", n_train), ("test", n_test))}
    coordinates = Normalizer(np.array(LOW), np.array(HIGH) - np.array(LOW))
    splits = {name: _read(paths, _points(paths[0], size), coordinates) for name, paths in runs.items()}
    return PDEDataset(
        name=f"drivaerml_{size}",
        train=splits["train"],
        tests={"test": splits["test"]},
        x_normalizer=coordinates,
        y_normalizer=Normalizer(np.array([PRESSURE_MEAN]), np.array([PRESSURE_STD])),
        source=Source.of(folder, runs={name: [path.stem for path in paths] for name, paths in runs.items()}),
        target_name="mean surface pressure",
        space_dim=3,
        channels=Channels((0, 1, 2), {}, {_FIELD: 1}, np.ones(1, np.float32), (_PUBLISHED, _OURS)),
        sample_names={name: [path.stem for path in paths] for name, paths in runs.items()},
    )


def _runs(folder: Path, count: int) -> list[Path]:
    """Return the first `count` files of a folder in the order of their numbers."""
    paths = sorted(
        matching(folder, "run_*.npz"), key=lambda path: (int(*re.findall(r"^run_(\d+)", path.stem) or [0]), path)
    )
    if not paths:
        raise DataError(f"{folder} holds no run_*.npz; unpack the archive again")
    return paths[first_samples(len(paths), count, f"data.n_{folder.name}", str(folder))]


def _points(path: Path, size: str) -> int:
    """Return the number of points of a run, which must be that of the variant."""
    points = len(read_npz(path, {"surface_mesh_centers": (None, 3)})["surface_mesh_centers"])
    if points != SIZES[size]:
        raise DataError(f"{path} has {points} points where {SIZES[size]} are expected; check that it is {size} data")
    return points


def _read(paths: list[Path], points: int, coordinates: Normalizer) -> Split:
    # Filled run by run: at a million points a list of all runs beside their stack would double the memory.
    x = np.empty((len(paths), points, 3), np.float32)
    y = np.empty((len(paths), points, 1), np.float32)
    shapes = {"surface_mesh_centers": (points, 3), "surface_fields": (points, 4)}
    for row, path in enumerate(paths):
        arrays = read_npz(path, shapes)
        x[row] = coordinates.encode(arrays["surface_mesh_centers"])
        y[row, :, 0] = arrays["surface_fields"][:, 0]
    return Split(x, y)


def _folder(size: str) -> Path:
    return Path("DrivAerML") / f"drivaerml_surface_presampled_{size}"


def _record(size: str) -> DatasetRecord:
    recipe: dict[str, dict[str, Any]] = {
        "all": {"batch_size": 1, "weight_decay": 1e-4 if size == "40k" else 1e-5},
        **({"flarepp": {"weight_decay": 1e-2}} if size == "40k" else {"lno": {"weight_decay": 5e-5}}),
    }
    if size == "1m":  # the original's scaling study
        recipe["flare"] = {"pct_start": 0.05, "eps": 1e-6, "learning_rate": 5e-4, "dtype": "bfloat16"}
    return DatasetRecord(
        name=f"drivaerml_{size}",
        folder=_folder(size),
        files=("train", "test"),
        download="the Hugging Face data set vedantpuri/PDESurrogates "
        f"(drivaerml_surface_presampled_{size}.tar.gz; 50k is not among them)",
        load=partial(load, size=size),
        n_train=N_TRAIN,
        n_test=N_TEST,
        generator=f"drivaerml_{size}",
        stand_in=True,
        points=SIZES[size],
        c_in=3,
        c_out=1,
        recipe=recipe,
        model={"upt": MANY_SUPERNODES},
        # Artificial cars of 10 000 points for all numbers of points: more do not fit into minutes.
        smoke={
            "data": {"name": "drivaerml_10k", "n_train": 12, "n_test": 3, "num_generate": 19, "points_per_step": 1024},
            "train": {"epochs": 20, "batch_size": 1},
        },
    )


RECORDS = tuple(_record(size) for size in SIZES)
