"""Where the batches of a training come from: data on the device, or on disk where they do not fit."""

from typing import Any, Protocol

import numpy as np

from data_pipeline.streaming.rows import is_stored
from experiments.training.device_source import DeviceSource
from experiments.training.disk_source import DiskSource
from experiments.training.setup import Setup
from experiments.training.state import TrainState


class Source(Protocol):
    """Runs steps on its batches, which depend on the random key and the number of the step alone.

    `timings` are those of chunks of steps, (steps, seconds), without compilation.
    """

    timings: list[tuple[int, float]]
    compile_seconds: float

    def prepare(self, state: TrainState, step: int, stop: int) -> bool:
        """Compile what steps `step` … `stop` − 1 need, as far as it is known; return whether there was anything."""

    def __call__(self, state: TrainState, step: int, stop: int) -> tuple[TrainState, dict[str, np.ndarray], float]:
        """Run steps `step` … `stop` − 1; return the state, the metrics of each step and the seconds taken."""

    def timing(self) -> dict[str, float]:
        """Return the median step time, the throughput, and the time spent in steps and in compilation."""

    def describe(self) -> str:
        """Return `timing` as one line."""

    def temporary_bytes(self) -> int | None:
        """Return the temporary memory of the largest program as its compiler plans it, None where it does not say."""

    def close(self) -> None:
        """End what runs in the background."""


def open_source(setup: Setup, config: Any) -> Source:
    """Return the source of a task's training data: of arrays that are read from disk a streaming one."""
    return DiskSource(setup, config) if is_stored(setup.task.train) else DeviceSource(setup, config)
