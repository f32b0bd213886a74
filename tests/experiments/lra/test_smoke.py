"""Every task with FLARE, ListOps with every backend, and the recursive model on puzzles: trained for a few steps."""

import math

import pytest

from data_pipeline.sequence.registry import TASKS
from experiments.lra.defaults import lra_defaults
from flare_jax.models.sequence import BACKENDS
from tests.data_pipeline.sequence.fakes import write_listops
from tests.experiments.lra.programs import run_here, tiny

pytestmark = pytest.mark.slow

# A puzzle of Sudoku is one of a single solution, found by trial.
SLOW = {"sudoku": 5, "maze": 10, "pathfinder32": 10, "pathfinder128": 10}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def _check(summary):
    for name, value in summary.items():
        if name.endswith(("/loss", "_accuracy")):
            assert math.isfinite(value)
            assert value >= 0
    assert summary["step"] > 0


def few(task):
    """Return the changes for a run of two steps on few samples, fewer where it takes long to generate one."""
    changes = {"train__steps": 2, "train__batch_size": 2, "eval__every": 2, "eval__batch_size": 2}
    return changes | {"data__num_generate": SLOW.get(task, 24)}


@pytest.mark.parametrize("task", TASKS)
def test_flare_on_every_task(task, data_dir, tmp_path):
    _check(run_here(tiny(f"task={task},model=flare", data_dir, **few(task)), tmp_path))


@pytest.fixture(scope="module")
def short_listops(tmp_path_factory):
    """Expressions of up to 24 tokens in the public layout, so that backends of cost N³ take part."""
    folder = tmp_path_factory.mktemp("short")
    lines = [f"( ( ( [MAX {index % 10} ) {index % 7} ) ] )\t{max(index % 10, index % 7)}" for index in range(32)]
    write_listops(folder, tuple(lines))
    return folder


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_on_listops(backend, short_listops, tmp_path):
    # The smoke run of third_order on true ListOps is refused, so its sizes come from a short task.
    config = tiny(f"task=sudoku,model={backend}", short_listops, train__steps=2, eval__every=2)
    config.data = lra_defaults("listops").data
    config.data.update({"dir": str(short_listops), "source": "files", "max_length": 24})
    config.model.pool = "mean"
    _check(run_here(config, tmp_path))


@pytest.mark.parametrize("task", ["sudoku", "maze"])
def test_recursive_model_on_puzzles(task, data_dir, tmp_path):
    # The puzzles of above, which are generated already.
    _check(run_here(tiny(f"task={task},model=flare,trm", data_dir, **few(task)), tmp_path))
