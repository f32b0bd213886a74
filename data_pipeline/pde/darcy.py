"""Darcy flow: the pressure in a porous square of two permeabilities (FNO, arXiv 2010.08895, section 5.2).

−∇·(a ∇u) = 1 with u = 0 on the boundary, a ∈ {3, 12}. Two MATLAB files of fields `coeff` and `sol` [n, 421, 421], read
with stride 5 in both axes: 85 × 85 points. The input is (coordinate, coordinate, encoded a); training uses the first
samples of the first file, the test the first samples of the second. Statistics are those of the training samples.
"""

from pathlib import Path

import numpy as np

from data_pipeline.dataset import PDEDataset, Source, Split
from data_pipeline.errors import DataError
from data_pipeline.files import first_samples
from data_pipeline.matlab import mat_shape, read_mat
from data_pipeline.normalizer import Normalizer
from data_pipeline.pde.grids import beside_coordinates, flat, grid_points
from data_pipeline.record import MANY_SUPERNODES, DatasetRecord
from runtime.options import declare, option

FOLDER = Path("FNO") / "darcy"
FILES = ("piececonst_r421_N1024_smooth1.mat", "piececonst_r421_N1024_smooth2.mat")


def load(data_dir: Path, n_train: int, n_test: int, side: int = 85) -> PDEDataset:
    """Load the two files below `data_dir` at side × side points; raises DataError for missing or bad files."""
    folder = data_dir / FOLDER
    coefficient, pressure = _read(folder / FILES[0], n_train, "data.n_train", side)
    test_coefficient, test_pressure = _read(folder / FILES[1], n_test, "data.n_test", side)
    permeability = Normalizer.fit(coefficient)
    points = grid_points(side, side)

    def split(values: np.ndarray, target: np.ndarray) -> Split:
        coordinates = np.broadcast_to(points, (len(values), *points.shape))
        return Split(np.concatenate([coordinates, permeability.encode(values)], axis=-1), target)

    return PDEDataset(
        name="darcy",
        train=split(coefficient, pressure),
        tests={"test": split(test_coefficient, test_pressure)},
        x_normalizer=beside_coordinates(2, permeability),
        y_normalizer=Normalizer.fit(pressure),
        source=Source.of(folder),
        target_name="pressure",
        grid_shape=(side, side),
    )


def _read(path: Path, count: int, option: str, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return permeability and pressure of the first `count` samples, [count, side², 1] each."""
    total, height, width = (*mat_shape(path, "coeff"), 0, 0)[:3]
    stride = (height - 1) // (side - 1) if side > 1 else 0
    if height != width or stride < 1 or stride * (side - 1) != height - 1:
        raise DataError(
            f"data.side={side} does not subsample the {height} x {width} points of {path}; choose a side such that "
            f"side - 1 divides {height - 1}"
        )
    chosen = (first_samples(total, count, option, str(path)), *[slice(None, None, stride)] * 2)
    shape = (total, height, width)
    return flat(read_mat(path, "coeff", shape, chosen)), flat(read_mat(path, "sol", shape, chosen))


RECORD = DatasetRecord(
    name="darcy",
    folder=FOLDER,
    files=FILES,
    download="the Hugging Face data set vedantpuri/PDESurrogates (FNO.tar.gz), or the drives of FNO and Transolver",
    load=load,
    n_train=1000,
    n_test=200,
    # The resolution of the files minus 1 must be a multiple of side - 1.
    options=declare(side=option(85, help="points per side of the grid", minimum=2, maximum=421)),
    generator="darcy",
    task_options=declare(gradient_weight=option(0.1, help="of the gradient term of the loss", minimum=0)),
    num_generate=1200,
    points=7225,
    c_in=3,
    c_out=1,
    grid=(85, 85),
    unified=True,
    recipe={
        "all": {"batch_size": 2, "weight_decay": 1e-5},
        "slices": {"batch_size": 4},
        "transolver++": {"batch_size": 4},
        "gnot": {"batch_size": 4, "weight_decay": 5e-5},
        "lno": {"batch_size": 4, "weight_decay": 5e-5},
    },
    model={"upt": MANY_SUPERNODES | {"space_dim": 2}},
    eval_batch_size=5,
    smoke={
        "data": {"n_train": 192, "n_test": 16, "num_generate": 260, "resolution": 29, "side": 29},
        "train": {"epochs": 20, "batch_size": 4},
    },
)
