"""Navier–Stokes: vorticity on the unit torus at viscosity 1e-5 (FNO, arXiv 2010.08895, section 5.3).

One MATLAB file with `u` [1200, 64, 64, 20], the vorticity at times 1 … 20. The first ten frames are given, the next ten
are to be predicted one after the other, each from the ten before it. Training uses the first 1000 samples and the test
the last 200. The vorticity is not normalised unless `data.normalize` asks for it.
"""

from pathlib import Path

import numpy as np

from data_pipeline import options
from data_pipeline.dataset import PDEDataset, Source, Split
from data_pipeline.errors import DataError
from data_pipeline.files import split_ends
from data_pipeline.matlab import mat_shape, read_mat
from data_pipeline.normalizer import Normalizer
from data_pipeline.pde.grids import grid_points
from data_pipeline.record import DatasetRecord
from runtime.options import declare, option

FOLDER = Path("FNO") / "navier_stokes"
FILES = ("NavierStokes_V1e-5_N1200_T20.mat",)


def load(
    data_dir: Path, n_train: int, n_test: int, history: int = 10, steps: int = 10, normalize: bool = False
) -> PDEDataset:
    """Load the file below `data_dir`: frames [S, N, steps, 1] to predict from `history` frames in `fx` [S, N, history].

    Raises DataError for missing or bad files and for fewer frames than asked for.
    """
    path = data_dir / FOLDER / FILES[0]
    total, height, width, frames = (*mat_shape(path, "u"), 0, 0, 0)[:4]
    if history + steps > frames:
        raise DataError(
            f"data.history={history} and data.steps={steps} must be together at most the {frames} frames of {path}; "
            "lower them"
        )
    train, test = split_ends(total, n_train, n_test, str(path))
    vorticity = read_mat(path, "u", (total, height, width, frames))
    points = grid_points(height, width)

    def split(samples: slice) -> Split:
        fields = vorticity[samples].reshape(-1, height * width, frames)
        x = np.ascontiguousarray(np.broadcast_to(points, (len(fields), *points.shape)))
        given, wanted = fields[..., :history], fields[..., history : history + steps, None]
        return Split(x, np.ascontiguousarray(wanted), fx=np.ascontiguousarray(given))

    statistics = Normalizer.identity(1)
    if normalize:
        statistics = Normalizer.fit(vorticity[train, ..., : history + steps].reshape(n_train, -1, 1))
    return PDEDataset(
        name="navier_stokes",
        train=split(train),
        tests={"test": split(test)},
        x_normalizer=Normalizer.identity(2),
        y_normalizer=statistics,
        source=Source.of(path.parent),
        target_name="vorticity",
        grid_shape=(height, width),
        kind="autoregressive",
        times=np.arange(history + 1, history + steps + 1, dtype=np.float32),
    )


RECORD = DatasetRecord(
    name="navier_stokes",
    folder=FOLDER,
    files=FILES,
    download="the Hugging Face data set vedantpuri/PDESurrogates (FNO.tar.gz), or the drives of FNO and Transolver",
    load=load,
    n_train=1000,
    n_test=200,
    options=declare(
        history=option(10, help="known frames", minimum=1, maximum=options.MOST),
        steps=option(10, help="frames to predict", minimum=1, maximum=options.MOST),
        normalize=option(False, help="standardise the frames, in and out"),
    ),
    generator="navier_stokes",
    num_generate=1200,
    kind="autoregressive",
    task_options=declare(
        feed=option(
            "truth", help="what enters the window in training: truth (teacher forcing), pushforward or prediction"
        ),
        noise=options.noise(0.0, "normalised units"),
    ),
    points=4096,
    c_in=12,
    c_out=1,
    grid=(64, 64),
    unified=True,  # as in Transolver's own runs
    # Not published for FLARE and others: the length and the batch of Transolver, which is twice as wide here too.
    recipe={"all": {"batch_size": 2, "weight_decay": 1e-5}, "lno": {"weight_decay": 5e-5}},
    model={"flare": {"channel_dim": 128}},
    like="pipe",
    eval_batch_size=5,
    smoke={
        "data": {"resolution": 16, "n_train": 96, "n_test": 8, "num_generate": 130},
        # Of so few flows true frames teach too little: their rollouts end worse than repeating the last known frame.
        "task": {"feed": "pushforward"},
        "train": {"epochs": 40},
    },
)
