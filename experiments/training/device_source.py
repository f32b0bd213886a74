"""Training on data that lie on the device: an epoch is one compiled scan over its steps."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.training.sampling import Epochs, bucket_lengths, buckets_of
from experiments.training.setup import Setup
from experiments.training.state import TrainState
from experiments.training.step import make_chunk, make_step
from experiments.training.timing import describe_timing, timing


class DeviceSource:
    """Compiles each chunk length once, runs chunks and keeps their times apart from compilation."""

    def __init__(self, setup: Setup, config: Any) -> None:
        self._setup = setup
        task = setup.task
        train = config.train
        self._batch = train.batch_size * train.accumulation
        buckets = buckets_of(task, self._batch)
        self._data = tuple(setup.mesh.place_dataset(bucket.cut(task.train)) for bucket in buckets)
        step = make_step(setup.task, setup.optimizer, setup.packing, train.ema_decay)
        epochs = Epochs(bucket_lengths(task, self._batch), train.batch_size, train.accumulation, task.windows)
        self._chunk = make_chunk(step, epochs=epochs, repeats=task.repeats, mesh=setup.mesh)
        self._compiled: dict[int, Callable[..., Any]] = {}
        self.compile_seconds = 0.0
        self.timings: list[tuple[int, float]] = []

    def prepare(self, state: TrainState, step: int, stop: int) -> bool:
        """Compile what steps `step` … `stop` − 1 need; return whether there was anything to compile."""
        length = stop - step
        if length in self._compiled:
            return False
        begin = time.perf_counter()
        self._compiled[length] = self._chunk.lower(*self._arguments(state, step), length=length).compile()
        self.compile_seconds += time.perf_counter() - begin
        return True

    def __call__(self, state: TrainState, step: int, stop: int) -> tuple[TrainState, dict[str, np.ndarray], float]:
        """Run steps `step` … `stop` − 1; return the state, the metrics of each step and the seconds taken."""
        length = stop - step
        self.prepare(state, step, stop)
        begin = time.perf_counter()
        state, metrics = self._compiled[length](*self._arguments(state, step))
        values = jax.device_get(metrics)
        seconds = time.perf_counter() - begin
        self.timings.append((length, seconds))
        return state, values, seconds

    def _arguments(self, state: TrainState, step: int) -> tuple[Any, ...]:
        epoch, first = divmod(step, self._setup.plan.steps_per_epoch)
        return state, self._data, jnp.int32(epoch), jnp.int32(first)

    def timing(self) -> dict[str, float]:
        """Return the median step time, the throughput, and the time spent in steps and in compilation."""
        return timing(self.timings, self._batch * self._setup.task.points_per_sample, self.compile_seconds)

    def close(self) -> None:
        """Release nothing: the data stay on the device as long as the runner."""

    def temporary_bytes(self) -> int | None:
        """Return the temporary memory of the largest chunk as its compiler plans it, None where it does not say."""
        plans = [compiled.memory_analysis() for compiled in self._compiled.values()]
        return max((plan.temp_size_in_bytes for plan in plans if plan is not None), default=None)

    def describe(self) -> str:
        """Return `timing` as one line."""
        return describe_timing(self.timing())
