"""One seed in training: its folder with checkpoints and log, how far it is, and why it ended before the others."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.errors import NotFiniteError
from experiments.training import hosts
from experiments.training.checkpoints import Checkpoints, SavedCheckpoints
from experiments.training.diagnostics import DiagnosticsLog
from experiments.training.mesh import Mesh
from experiments.training.optimizers import peak_rates
from experiments.training.records import MetricsLog
from experiments.training.setup import Setup
from experiments.training.state import TrainState
from experiments.training.trackers import Tracker

Seed = TypeVar("Seed")


def grouped(seeds: Sequence[Seed], largest: int) -> list[tuple[Seed, ...]]:
    """Return the seeds in order, in as few groups as hold `largest` each, of sizes as equal as possible."""
    size = -(-len(seeds) // -(-len(seeds) // largest))
    return [tuple(seeds[first : first + size]) for first in range(0, len(seeds), size)]


def saved_checkpoints(setup: Setup, workdir: Path) -> SavedCheckpoints:
    """Return the checkpoints of the run in `workdir` for reading."""
    return SavedCheckpoints(workdir / "checkpoints", setup.packing)


def config_of_seed(config: Any, seed: int) -> ConfigDict:
    """Return the configuration of a run of this seed alone."""
    own = ConfigDict(config.to_dict())
    own.train.seeds, own.train.parallel_seeds = (seed,), 1
    return own


def _open_checkpoints(setup: Setup, config: Any, workdir: Path) -> Checkpoints:
    """Open the checkpoints of the run in `workdir` for writing."""
    return Checkpoints(
        workdir / "checkpoints",
        setup.packing,
        keep_last=config.checkpoint.keep_last,
        keep_best=config.checkpoint.keep_best,
        metric=setup.task.headline,
        higher_is_better=setup.task.higher_is_better,
        config=config_of_seed(config, setup.seed).to_dict(),
    )


class SeedRun:
    """The run of one seed in `workdir`, whose newest readable checkpoint it goes on from.

    `start` is that checkpoint's step and `step` the one that is reached; `saved` tells whether the state of `step` is
    on disk or being written, `loss` and `headline` are the latest of the training and of the test. `failure` says why
    the seed went no further, if it did not.
    """

    def __init__(self, setup: Setup, config: Any, workdir: Path, trackers: Sequence[Tracker] = ()) -> None:
        self.setup, self.config = setup, config
        self.checkpoints = _open_checkpoints(setup, config, workdir)
        restored = self.checkpoints.restore_latest(setup.template, hosts.say)
        self.initial = setup.template if restored is None else setup.mesh.replicate(restored)
        self.start = self.step = int(self.initial.step)
        with hosts.main_first("unreadable checkpoints"):
            self.checkpoints.drop_after(self.start)
        self.checkpoints.prune()
        path = workdir / "metrics.jsonl" if hosts.is_main() else None
        self.log = MetricsLog(path, self.start, hosts.say, trackers)
        every = setup.task.diagnostics_every
        self.diagnostics = DiagnosticsLog(workdir if hosts.is_main() else None, every, self.start, hosts.say)
        self.restored, self.saved = restored is not None, True
        self.loss = self.headline = math.nan
        self.failure: NotFiniteError | None = None

    def close(self) -> None:
        """End the threads that write, and the trackers of the log."""
        self.log.close()
        self.diagnostics.close()
        self.checkpoints.close()

    @property
    def unfinished(self) -> bool:
        """Whether there is more to train."""
        return self.failure is None and self.step < self.setup.plan.steps

    def describe_start(self) -> str:
        """Return where the run begins, empty at the first step."""
        if self.start == self.setup.plan.steps:
            return f"all {self.start} steps are done already"
        return f"resuming from step {self.start} of {self.setup.plan.steps}" if self.restored else ""

    def save(self, state: TrainState, metrics: dict[str, float] | None, interim: bool = False) -> None:
        """Begin to write the state that is reached; raises NotFiniteError if it is not finite."""
        if interim:
            self.checkpoints.save(state, self.step, metrics, interim=True)
        else:
            self.checkpoints.save(state, self.step, metrics)
        self.saved = True

    def check_finite(self, values: dict[str, np.ndarray], step: int) -> None:
        """Raise NotFiniteError, with everything on disk, if a step after step `step` had a loss that is not finite."""
        bad = ~(np.isfinite(values["loss"]) & np.isfinite(values["grad_norm"]))
        if not bad.any():
            return
        self.checkpoints.wait()
        clip_norm = self.config.train.clip_norm
        other = f"train.clip_norm={clip_norm:g}" if clip_norm > 0 else "clip gradients by train.clip_norm=1"
        raise NotFiniteError(
            f"the loss or its gradient became NaN or infinite at step {step + 1 + int(np.argmax(bad))}; the checkpoint "
            f"of step {self.checkpoints.steps()[-1]} is kept; lower "
            f"{peak_rates(self.config.optimizer)} or {other} and start in another workdir"
        )


class SeedStates:
    """The states of seeds that are trained together: as one, with the seed on the first axis of every array.

    Where there is a single place, `joined` is the state of its seed as it is. Places without a seed hold copies.
    """

    def __init__(self, states: list[TrainState], places: int, mesh: Mesh) -> None:
        self.places, self._single = places, places == 1
        filled = states + states[:1] * (places - len(states))

        def join(*states: TrainState) -> TrainState:
            return mesh.constrain_replicated(jax.tree.map(lambda *values: jnp.stack(values), *states))

        def take(joined: TrainState, place: jax.Array) -> TrainState:
            return mesh.constrain_replicated(jax.tree.map(lambda value: value[place], joined))

        self._take = jax.jit(take)
        self.joined = filled[0] if self._single else jax.jit(join)(*filled)

    def of(self, place: int) -> TrainState:
        """Return the state of one seed."""
        return self.joined if self._single else self._take(self.joined, place)
