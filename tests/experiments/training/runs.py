"""Runs of one configuration in several folders, or in one again, by programs that are compiled once for all of them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from experiments.errors import NotFiniteError
from experiments.training.loop import Outcome, train_together
from experiments.training.mesh import make_mesh
from experiments.training.setup import Setup, build_setup
from experiments.training.source import Source, open_source
from experiments.training.state import TrainState
from experiments.training.task import Task

Params = Mapping[str, jax.Array]


class Runs:
    """Trains a task with a configuration as `train` does; `params` gives the initial parameters of a seed.

    `setup` is what all runs share; its template is given to none of them.
    """

    def __init__(self, config: Any, task: Task, params: Callable[[int], Params], seed: int = 0) -> None:
        self.config, self.seed = config, seed
        self.setup = build_setup(task, params(seed), config, seed, make_mesh(1, 1))
        self._params = params
        self._sources: dict[int, Source] = {}

    def train(self, folder: Path, seed: int | None = None) -> TrainState:
        """Train one seed in `folder`, or go on with it, and return its final state; raises what `train` does."""
        (outcome,) = self.train_together([self.seed if seed is None else seed], [folder])
        if isinstance(outcome, NotFiniteError):
            raise outcome
        return outcome

    def train_together(
        self,
        seeds: Sequence[int],
        folders: Sequence[Path],
        places: int = 1,
        params: Callable[[int], Params] | None = None,
    ) -> list[Outcome]:
        """Train several seeds in one program that has `places` for them, from `params` if these are others."""
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        setups: list[Setup] = [self.setup.for_seed((params or self._params)(seed), seed) for seed in seeds]
        if places not in self._sources:
            self._sources[places] = open_source(self.setup, self.config, places)
        return train_together(setups, self.config, folders, self._sources[places], places=places, quiet=True)
