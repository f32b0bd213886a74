"""The recipes of docs/adding.md work: what they say is done to a copy of the project, and the program runs with it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.experiments.programs import environment

ROOT = Path(__file__).parent.parent
PACKAGES = ("configs", "data_pipeline", "experiments", "flare_jax", "kernels", "runtime")

DATA_SET = '''"""A line of heat."""

from pathlib import Path

import numpy as np

from data_pipeline.dataset import PDEDataset, Source, Split
from data_pipeline.files import read_npy, split_ends
from data_pipeline.normalizer import Normalizer
from data_pipeline.record import DatasetRecord
from runtime.options import declare, option


def load(data_dir: Path, n_train: int, n_test: int, skip: int = 0) -> PDEDataset:
    """Load the array [S, N, 2] of places and temperatures below `data_dir`."""
    folder = data_dir / RECORD.folder
    samples = read_npy(folder / RECORD.files[0], (None, None, 2))[skip:]
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
    options=declare(skip=option(0, help="samples that are left out at the start", minimum=0)),
    recipe={"all": {"batch_size": 2, "weight_decay": 1e-5}},
    like="elasticity",
    smoke={"data": {"n_train": 8, "n_test": 2}, "train": {"epochs": 1}},
)
'''


MODEL = '''"""Every point sees the mean of all."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_points
from flare_jax.layers.linear import Linear
from flare_jax.options import Config, option


@dataclass(frozen=True, kw_only=True)
class AverageConfig(Config):
    """Options of the model."""

    channel_dim: int = option(16, help="width", minimum=1)


class Average(nnx.Module):
    """A linear layer, the mean over the points, a linear layer."""

    def __init__(
        self, in_dim: int, out_dim: int, config: AverageConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ):
        self.in_dim = in_dim
        self.embed = Linear(in_dim, config.channel_dim, dtype=dtype, rngs=rngs)
        self.head = Linear(config.channel_dim, out_dim, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B N C_in"], mask: Bool[Array, "B N"] | None = None
    ) -> Float[Array, "B N C_out"]:
        """Return the prediction."""
        check_points(x, mask, self.in_dim)
        y = jnp.tanh(self.embed(x))
        return self.head(y + jnp.mean(y, axis=1, keepdims=True, where=None if mask is None else mask[..., None]))
'''
LAST_IMPORT = "from flare_jax.models.upt import UPT, UPTConfig\n"
IMPORT = "from flare_jax.models.average import Average, AverageConfig\n"
FIRST_ROW = '        "flare": ModelEntry('
ROW = '        "average": ModelEntry(Average, AverageConfig, "the mean of all points", "no paper"),\n'

OPTION_BEFORE = "    batch_size: int = count(2, "
OPTION = '    patience: int = count(0, "evaluations without progress after which a run ends; 0: none")\n'


def test_a_data_set_is_one_file_and_a_model_is_one_with_a_line_and_so_is_an_option_of_training(tmp_path):
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "data_pipeline/pde/heat.py").write_text(DATA_SET)
    (tmp_path / "flare_jax/models/average.py").write_text(MODEL)
    registry = tmp_path / "flare_jax/models/registry.py"
    text = registry.read_text()
    assert text.count(FIRST_ROW) == text.count(LAST_IMPORT) == 1
    registry.write_text(text.replace(FIRST_ROW, ROW + FIRST_ROW).replace(LAST_IMPORT, LAST_IMPORT + IMPORT))
    sections = tmp_path / "experiments/sections.py"
    text = sections.read_text()
    assert text.count(OPTION_BEFORE) == 1
    sections.write_text(text.replace(OPTION_BEFORE, OPTION + OPTION_BEFORE))
    (tmp_path / "data/heat").mkdir(parents=True)
    np.save(tmp_path / "data/heat/heat.npy", np.random.default_rng(0).random((13, 12, 2), np.float32))
    command = [sys.executable, "-m", "experiments.pdebench", "--config=configs/pde.py:model=average,data=heat,smoke"]
    options = [
        "--config.model.channel_dim=8",
        "--config.data.skip=3",
        "--config.train.patience=4",
        "--config.figures=False",
        "--workdir=run",
        "--data_dir=data",
    ]
    done = subprocess.run(
        [*command, *options], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "run/eval.json").read_text())
    assert 0 < report["test/rel_l2"] < 10
    assert json.loads((tmp_path / "run/config.json").read_text())["config"]["train"]["patience"] == 4
    assert "heat: 8 training samples" in done.stdout
