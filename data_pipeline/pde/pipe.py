"""Pipe: steady incompressible flow through a bent pipe (Geo-FNO, arXiv 2207.05209, section 4.4).

2310 samples on a 129 × 129 grid, first axis along the pipe, second across; of them the first 1200 are used, 1000 to
train and the last 200 of these to test. The input is the normalised coordinates, the target the horizontal velocity,
channel 0 of (u_x, u_y, p).
"""

from pathlib import Path

from data_pipeline.dataset import PDEDataset
from data_pipeline.pde.curvilinear import load_curvilinear
from data_pipeline.record import MANY_SUPERNODES, DatasetRecord

FOLDER = Path("Geo-FNO") / "pipe"
FILES = ("Pipe_X.npy", "Pipe_Y.npy", "Pipe_Q.npy")


def load(data_dir: Path, n_train: int, n_test: int) -> PDEDataset:
    """Load the three files below `data_dir`; raises DataError for missing or bad files."""
    return load_curvilinear(
        "pipe",
        data_dir / FOLDER,
        FILES,
        n_train,
        n_test,
        channels=3,
        channel=0,
        target_name="horizontal velocity",
        normalize_x=True,
    )


RECORD = DatasetRecord(
    name="pipe",
    folder=FOLDER,
    files=FILES,
    download="the Hugging Face data set vedantpuri/PDESurrogates (Geo-FNO.tar.gz), or the Geo-FNO release (pipe)",
    load=load,
    n_train=1000,
    n_test=200,
    generator="pipe",
    num_generate=1200,
    points=16641,
    c_in=2,
    c_out=1,
    grid=(129, 129),
    recipe={
        "all": {"batch_size": 2, "weight_decay": 1e-5},
        "slices": {"batch_size": 4},
        "transolver++": {"batch_size": 4},
        "gnot": {"batch_size": 4},
        "lno": {"batch_size": 4, "weight_decay": 5e-5},
        "attention": {"eps": 1e-6},
    },
    model={"upt": MANY_SUPERNODES},
    eval_batch_size=5,
    smoke={
        "data": {"n_train": 160, "n_test": 16, "num_generate": 220, "resolution": 17},
        "train": {"epochs": 20, "batch_size": 4},
    },
)
