"""Cylinder flow: incompressible flow past a cylinder in a channel, 600 frames a case (arXiv 2010.03409)."""

from pathlib import Path

from data_pipeline.dataset import PDEDataset
from data_pipeline.pde import mesh_series

FOLDER = Path("MeshGraphNets") / "cylinder_flow"


def load(
    data_dir: Path,
    n_train: int,
    n_test: int,
    skip_steps: int = 100,
    max_steps: int = 500,
    buckets: int = 3,
    *,
    edges: bool = False,
) -> PDEDataset:
    """Load the first cases of the files below `data_dir`; raises DataError."""
    return mesh_series.load_mesh_series(
        "cylinder_flow", data_dir / FOLDER, n_train, n_test, skip_steps, max_steps, buckets, edges
    )


RECORD = mesh_series.record("cylinder_flow", FOLDER, load, noise=0.02)
