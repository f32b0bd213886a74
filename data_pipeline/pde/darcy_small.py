"""Darcy flow at 16² (and a 32² test): true solutions of the FNO problem (arXiv 2010.08895, section 5.2), distributed
with the neuraloperator package.

The input is (x, y, permeability) and the target the pressure; coordinates are cell centres of the unit square, so the
32² test asks the same network for the same problem at another resolution.
"""

from pathlib import Path

import numpy as np

from data_pipeline.dataset import PDEDataset, Source, Split
from data_pipeline.files import first_samples, last_samples, read_npz
from data_pipeline.normalizer import Normalizer
from data_pipeline.record import DatasetRecord

FOLDER = Path("darcy_small")
FILES = ("darcy_train_16.npz", "darcy_test_16.npz", "darcy_test_32.npz")


def grid_points(side: int) -> np.ndarray:
    """Return the cell centres of a side × side grid on the unit square, [side², 2], first axis slowest."""
    centres = (np.arange(side, dtype=np.float32) + 0.5) / side
    return np.stack(np.meshgrid(centres, centres, indexing="ij"), axis=-1).reshape(-1, 2)


def _read(path: Path, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the permeability and the pressure of one file as [S, side², 1] each."""
    shape = (None, side, side)
    arrays = read_npz(path, {"x": shape, "y": shape})
    return tuple(arrays[name].reshape(-1, side * side, 1) for name in ("x", "y"))


def load(data_dir: Path, n_train: int, n_test: int) -> PDEDataset:
    """Load the three files below `data_dir`; the permeability is normalised by its training statistics."""
    folder = data_dir / FOLDER
    permeability, pressure = _read(folder / FILES[0], 16)
    train = first_samples(len(permeability), n_train, "data.n_train", str(folder / FILES[0]))
    coefficient = Normalizer.fit(permeability[train])
    coordinates = Normalizer.identity(2)
    normalizer = Normalizer(
        np.concatenate([coordinates.mean, coefficient.mean]), np.concatenate([coordinates.std, coefficient.std])
    )

    def split(values: np.ndarray, target: np.ndarray, side: int) -> Split:
        points = np.broadcast_to(grid_points(side), (len(values), side * side, 2))
        return Split(np.concatenate([points, coefficient.encode(values)], axis=-1), target)

    tests = {}
    for name, file, side in (("test", FILES[1], 16), ("test_32", FILES[2], 32)):
        values, target = _read(folder / file, side)
        chosen = last_samples(len(values), n_test, "data.n_test", str(folder / file))
        tests[name] = split(values[chosen], target[chosen], side)
    return PDEDataset(
        name="darcy_small",
        train=split(permeability[train], pressure[train], 16),
        tests=tests,
        x_normalizer=normalizer,
        y_normalizer=Normalizer.fit(pressure[train]),
        source=Source("public files", str(folder)),
        target_name="pressure",
        grid_shape=(16, 16),
    )


RECORD = DatasetRecord(
    name="darcy_small",
    folder=FOLDER,
    files=FILES,
    download="the neuraloperator repository (neuralop/data/datasets/data), as npz files with the arrays x and y",
    load=load,
    n_train=1000,
    n_test=50,
    points=256,
    c_in=3,
    c_out=1,
    grid=(16, 16),
    unified=True,
    recipe={"all": {"epochs": 200, "batch_size": 4, "weight_decay": 1e-5}, "lno": {"weight_decay": 5e-5}},
    model={"upt": {"space_dim": 2}},
    like="elasticity",
    eval_batch_size=5,
    smoke={"data": {"n_train": 1000, "n_test": 50}, "train": {"epochs": 20, "batch_size": 10}},
)
