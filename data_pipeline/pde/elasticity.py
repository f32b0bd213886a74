"""Elasticity: von Mises stress in a unit square with a random void (Geo-FNO, arXiv 2207.05209, section 4.1).

2000 samples of 972 points; the input is the raw coordinates, the target the scalar stress at the same points. Training
uses the first 1000 samples and the test the last 200.
"""

from pathlib import Path

import numpy as np

from data_pipeline.dataset import PDEDataset, Source, Split
from data_pipeline.files import read_npy, split_ends
from data_pipeline.normalizer import Normalizer
from data_pipeline.record import DatasetRecord

FOLDER = Path("Geo-FNO") / "elasticity" / "Meshes"
FILES = ("Random_UnitCell_XY_10.npy", "Random_UnitCell_sigma_10.npy")
POINTS = 972


def load(data_dir: Path, n_train: int, n_test: int) -> PDEDataset:
    """Load the two arrays below `data_dir` and split them; raises DataError for missing or bad files."""
    folder = data_dir / FOLDER
    coordinates = read_npy(folder / FILES[0], (POINTS, 2, None))
    stress = read_npy(folder / FILES[1], (POINTS, coordinates.shape[-1]))
    points = np.ascontiguousarray(coordinates.transpose(2, 0, 1))
    target = np.ascontiguousarray(stress.T)[..., None]
    train, test = split_ends(len(points), n_train, n_test, str(folder))
    return PDEDataset(
        name="elasticity",
        train=Split(points[train], target[train]),
        tests={"test": Split(points[test], target[test])},
        x_normalizer=Normalizer.identity(2),
        y_normalizer=Normalizer.fit(target[train]),
        source=Source.of(folder),
        target_name="von Mises stress",
    )


RECORD = DatasetRecord(
    name="elasticity",
    folder=FOLDER,
    files=FILES,
    download="the Geo-FNO release (elasticity/Meshes)",
    load=load,
    n_train=1000,
    n_test=200,
    generator="elasticity",
    points=POINTS,
    c_in=2,
    c_out=1,
    recipe={
        "all": {"batch_size": 2, "weight_decay": 1e-5},
        "slices": {"batch_size": 1},
        "transolver++": {"batch_size": 8},
        "lno": {"batch_size": 4, "weight_decay": 5e-5},
    },
    eval_batch_size=5,
    smoke={
        "data": {"n_train": 192, "n_test": 40, "num_generate": 290},
        "train": {"epochs": 40, "batch_size": 4},
    },
)
