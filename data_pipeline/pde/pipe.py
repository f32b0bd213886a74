"""Pipe: steady incompressible flow through a bent pipe (Geo-FNO, arXiv 2207.05209, section 4.4).

2310 samples on a 129 × 129 grid, first axis along the pipe, second across; of them the first 1200 are used, 1000 to
train and the last 200 of these to test. The input is the normalised coordinates, the target the horizontal velocity,
channel 0 of (u_x, u_y, p).
"""

from pathlib import Path

from data_pipeline.dataset import PDEDataset
from data_pipeline.pde.curvilinear import load_curvilinear

FOLDER = Path("Geo-FNO") / "pipe"
FILES = ("Pipe_X.npy", "Pipe_Y.npy", "Pipe_Q.npy")
N_TRAIN, N_TEST = 1000, 200
GENERATOR = "pipe"
DOWNLOAD = "the Hugging Face data set vedantpuri/PDESurrogates (Geo-FNO.tar.gz), or the Geo-FNO release (pipe)"


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
