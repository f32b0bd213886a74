"""Airfoil: steady transonic Euler flow around deformed NACA-0012 profiles (Geo-FNO, arXiv 2207.05209, section 4.3).

2490 samples on a C-grid of 221 × 51 points, first axis around the profile and its wake cut, second outwards; of them
the first 1200 are used, 1000 to train and the last 200 of these to test. The input is the raw coordinates, which reach
±40 while most points lie near the profile, and the target the Mach number, channel 4 of (rho, u, v, p, Mach).
"""

from pathlib import Path

from data_pipeline.dataset import PDEDataset
from data_pipeline.pde.curvilinear import load_curvilinear
from data_pipeline.record import MANY_SUPERNODES, DatasetRecord

FOLDER = Path("Geo-FNO") / "airfoil" / "naca"
FILES = ("NACA_Cylinder_X.npy", "NACA_Cylinder_Y.npy", "NACA_Cylinder_Q.npy")


def load(data_dir: Path, n_train: int, n_test: int) -> PDEDataset:
    """Load the three files below `data_dir`; raises DataError for missing or bad files."""
    return load_curvilinear(
        "airfoil_steady",
        data_dir / FOLDER,
        FILES,
        n_train,
        n_test,
        channels=5,
        channel=4,
        target_name="Mach number",
        normalize_x=False,
    )


RECORD = DatasetRecord(
    name="airfoil_steady",
    folder=FOLDER,
    files=FILES,
    download="the Hugging Face data set vedantpuri/PDESurrogates (Geo-FNO.tar.gz), or the Geo-FNO release "
    "(airfoil/naca)",
    load=load,
    n_train=1000,
    n_test=200,
    generator="airfoil_steady",
    num_generate=1200,
    points=11271,
    c_in=2,
    c_out=1,
    grid=(221, 51),
    recipe={
        "all": {"batch_size": 2, "weight_decay": 1e-5},
        "slices": {"batch_size": 4},
        "transolver++": {"batch_size": 4},
        "gnot": {"batch_size": 4},
        "lno": {"batch_size": 4, "weight_decay": 5e-5},
    },
    model={"upt": MANY_SUPERNODES},
    eval_batch_size=5,
    smoke={
        "data": {"n_train": 9, "n_test": 3, "num_generate": 15, "resolution": 11},
        "train": {"epochs": 40, "batch_size": 1},
    },
)
