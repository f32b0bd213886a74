"""Trainings of the toy problem."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.training.loop import train
from experiments.training.mesh import make_mesh
from experiments.training.setup import Setup, build_setup
from experiments.training.state import TrainState
from experiments.training.task import Task
from tests.experiments.training.runs import Runs
from tests.experiments.training.toy import toy_params, toy_task


def train_toy(config: Any, workdir: Path, task: Task | None = None) -> tuple[Setup, TrainState]:
    """Train in `workdir` by a program of its own; return what was trained, and its final state."""
    workdir.mkdir(exist_ok=True)
    setup = build_setup(task or toy_task(), toy_params(), config, 0, make_mesh(1, 1))
    return setup, train(setup, config, workdir, quiet=True)


def toy_runs(config: Any) -> Runs:
    """Return what trains the toy problem in several folders by one program."""
    return Runs(config, toy_task(), lambda seed: toy_params())


def arrays_of(state: TrainState) -> list[np.ndarray]:
    """Return the arrays of a state, of its key too."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state._replace(key=jax.random.key_data(state.key)))]
