"""Plasticity: a block of steel forged by a die of random shape (Geo-FNO, arXiv 2207.05209, section 4.2).

One MATLAB file: `input` [987, 101], the die's profile along the block, and `output` [987, 101, 31, 20, 4] on a grid of
101 × 31 material points at 20 times, channels deformed x, deformed y, displacement u_x, u_y. Training uses the first
900 samples and the test the last 80. The input of a point is its place in the undeformed block and the normalised
profile above it; the field at any of the times is asked for.

Point 31·i + j has coordinates (j / 30, i / 100): the original builds them in the order of a 31 × 101 grid, which gives
each point those of another one. The block of material is x = 0.35 − i / 2, y = 14.9 − j / 2.
"""

from pathlib import Path

import numpy as np

from data_pipeline.dataset import PDEDataset, Source, Split
from data_pipeline.files import split_ends
from data_pipeline.matlab import mat_shape, read_mat
from data_pipeline.normalizer import Normalizer
from data_pipeline.options import MOST
from data_pipeline.pde.grids import grid_points
from data_pipeline.record import DatasetRecord
from runtime.options import declare, option

FOLDER = Path("Geo-FNO") / "plasticity"
FILES = ("plas_N987_T20.mat",)
CHANNELS = 4


def load(data_dir: Path, n_train: int, n_test: int) -> PDEDataset:
    """Load the file below `data_dir`: fields [S, N, T, 4] at times in [0, 1], the profile in `fx` [S, N, 1]."""
    path = data_dir / FOLDER / FILES[0]
    total, along, across, frames, _ = (*mat_shape(path, "output"), 0, 0, 0, 0)[:5]
    train, test = split_ends(total, n_train, n_test, str(path))
    profile = read_mat(path, "input", (total, along))
    fields = read_mat(path, "output", (total, along, across, frames, CHANNELS))
    profile_normalizer = Normalizer.fit(profile[train, :, None])
    points = grid_points(along, across)

    def split(samples: slice) -> Split:
        chosen = fields[samples]
        encoded = profile_normalizer.encode(profile[samples])
        return Split(
            np.ascontiguousarray(np.broadcast_to(points, (len(chosen), *points.shape))),
            chosen.reshape(len(chosen), along * across, frames, CHANNELS),
            fx=np.repeat(encoded, across, axis=1)[..., None],
        )

    return PDEDataset(
        name="plasticity",
        train=split(train),
        tests={"test": split(test)},
        x_normalizer=Normalizer.identity(2),
        y_normalizer=Normalizer.identity(CHANNELS),
        source=Source.of(path.parent),
        target_name="vertical displacement",
        grid_shape=(along, across),
        kind="time_conditioned",
        shown_channel=3,
        times=np.linspace(0, 1, frames, dtype=np.float32),
    )


RECORD = DatasetRecord(
    name="plasticity",
    folder=FOLDER,
    files=FILES,
    download="the Hugging Face data set vedantpuri/PDESurrogates (Geo-FNO.tar.gz), or the Geo-FNO release (plasticity)",
    load=load,
    n_train=900,
    n_test=80,
    generator="plasticity",
    num_generate=987,
    kind="time_conditioned",
    task_options=declare(
        times_per_step=option(0, help="random times of a step; 0: one step on each time", minimum=0, maximum=MOST)
    ),
    points=3131,
    c_in=4,
    c_out=CHANNELS,
    grid=(101, 31),
    # Not published for FLARE and others: the length, the batch and the clipping of Transolver.
    recipe={
        "all": {"batch_size": 8, "weight_decay": 1e-5, "clip_norm": 0.1},
        "lno": {"weight_decay": 5e-5, "clip_norm": 1000.0},
    },
    like="pipe",
    eval_batch_size=5,
    smoke={
        "data": {"resolution": 21, "n_train": 24, "n_test": 8, "num_generate": 40},
        "train": {"epochs": 5, "batch_size": 4},
    },
)
