"""Where the batches of a training come from: data on the device, or on disk where they do not fit."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from data_pipeline.streaming.rows import is_stored
from experiments.errors import UserError
from experiments.training.device_source import DeviceSource
from experiments.training.disk_source import DiskSource
from experiments.training.setup import Setup
from experiments.training.state import TrainState


class Source(Protocol):
    """Runs steps on its batches, which depend on the random key and the number of the step alone.

    `timings` are those of chunks of steps, (steps, seconds), without compilation. Arrays of a source for several seeds
    have the seeds on their first axis.
    """

    timings: list[tuple[int, float]]
    compile_seconds: float

    def prepare(self, state: TrainState, step: int, stop: int) -> bool:
        """Compile what steps `step` … `stop` − 1 need, as far as it is known; return whether there was anything."""

    def __call__(
        self, state: TrainState, step: int, stop: int, active: Sequence[bool] = ()
    ) -> tuple[TrainState, dict[str, np.ndarray], float]:
        """Run steps `step` … `stop` − 1; return the state, the metrics of each step and the seconds taken.

        Of several seeds those that are not `active` keep their state; by default all are.
        """

    def timing(self) -> dict[str, float]:
        """Return the median step time, the throughput, and the time spent in steps and in compilation."""

    def describe(self) -> str:
        """Return `timing` as one line."""

    def temporary_bytes(self) -> int | None:
        """Return the temporary memory of the largest program as its compiler plans it, None where it does not say."""

    def close(self) -> None:
        """End what runs in the background and release the data; what is compiled stays, for other seeds."""


def open_source(setup: Setup, config: Any, seeds: int = 1) -> Source:
    """Return the source of a task's training data for so many seeds at a time, a streaming one for arrays on disk.

    Raises UserError for several seeds on a stream: each seed takes its samples in another order.
    """
    if not is_stored(setup.task.train):
        return DeviceSource(setup, config, seeds)
    if seeds > 1:
        raise UserError(
            f"train.parallel_seeds={config.train.parallel_seeds} needs training data in memory, and these are read "
            "from disk, by each seed in another order; set train.parallel_seeds=1, or data.stream=never if they fit"
        )
    return DiskSource(setup, config)
