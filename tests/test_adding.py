"""The recipes of docs/adding.md work: what they say is done to a copy of the project, and the program runs with it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.experiments.programs import environment

ROOT = Path(__file__).parent.parent
PACKAGES = ("configs", "data_pipeline", "experiments", "flare_jax", "kernels")

DATA_SET = '''"""A line of heat."""

from pathlib import Path

import numpy as np

from data_pipeline.dataset import PDEDataset, Source, Split
from data_pipeline.files import read_npy, split_ends
from data_pipeline.normalizer import Normalizer
from data_pipeline.record import DatasetRecord


def load(data_dir: Path, n_train: int, n_test: int) -> PDEDataset:
    """Load the array [S, N, 2] of places and temperatures below `data_dir`."""
    folder = data_dir / RECORD.folder
    samples = read_npy(folder / RECORD.files[0], (None, None, 2))
    train, test = split_ends(len(samples), n_train, n_test, str(folder))
    points, target = samples[..., :1], samples[..., 1:]
    return PDEDataset(
        name=RECORD.name,
        train=Split(points[train], target[train]),
        tests={"test": Split(points[test], target[test])},
        x_normalizer=Normalizer.identity(1),
        y_normalizer=Normalizer.fit(target[train]),
        source=Source.of(folder),
        target_name="temperature",
        space_dim=1,
    )


RECORD = DatasetRecord(
    name="heat",
    folder=Path("heat"),
    files=("heat.npy",),
    download="nowhere",
    load=load,
    n_train=8,
    n_test=2,
    recipe={"all": {"batch_size": 2, "weight_decay": 1e-5}},
    like="elasticity",
    smoke={"data": {"n_train": 8, "n_test": 2}, "train": {"epochs": 1}},
)
'''


def test_a_data_set_is_one_file(tmp_path):
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "data_pipeline/pde/heat.py").write_text(DATA_SET)
    (tmp_path / "data/heat").mkdir(parents=True)
    np.save(tmp_path / "data/heat/heat.npy", np.random.default_rng(0).random((10, 12, 2), np.float32))
    command = [sys.executable, "-m", "experiments.pdebench", "--config=configs/pde.py:model=flare,data=heat,smoke"]
    sizes = ["--config.model.num_blocks=1", "--config.model.channel_dim=8", "--config.figures=False", "--workdir=run"]
    done = subprocess.run(
        [*command, *sizes], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "run/eval.json").read_text())
    assert 0 < report["test/rel_l2"] < 10
    assert "heat: 8 training samples" in done.stdout
