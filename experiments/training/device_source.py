"""Training on data that lie on the device: an epoch is one compiled scan over its steps."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from experiments.training.sampling import Bucket, Epochs, bucket_lengths, buckets_of
from experiments.training.setup import Setup
from experiments.training.state import TrainState
from experiments.training.step import make_chunk, make_chunk_of_seeds, make_step
from experiments.training.timing import describe_timing, timing


class DeviceSource:
    """Compiles each chunk length once, runs chunks and keeps their times apart from compilation.

    With several `seeds` the arrays of a state and of the metrics have the seeds on their first axis. They are `batched`
    by default where that is faster: an accelerator is filled by computing them in the same operations, while a CPU
    gains nothing, and seeds that are computed one after the other give the same bits as alone. So do batches from
    several buckets, which the seeds take in different orders.
    """

    def __init__(self, setup: Setup, config: Any, seeds: int = 1, batched: bool | None = None) -> None:
        self._setup, self._seeds = setup, seeds
        task, train, mesh = setup.task, config.train, setup.mesh
        self._batch = train.batch_size * train.accumulation
        self._buckets = buckets_of(task, self._batch)
        step = make_step(task, setup.optimizer, setup.packing, train.ema_decay)
        epochs = Epochs(bucket_lengths(task, self._batch), train.batch_size, train.accumulation, task.windows)
        options = {"epochs": epochs, "repeats": task.loss.repeats, "mesh": mesh}
        if batched is None:
            batched = len(self._buckets) == 1 and mesh.platform != "cpu"
        several = seeds > 1
        self._chunk = make_chunk_of_seeds(step, batched=batched, **options) if several else make_chunk(step, **options)
        self._data: tuple[dict[str, jax.Array], ...] | None = None
        self._compiled: dict[int, Callable[..., Any]] = {}
        self.compile_seconds = 0.0
        self.timings: list[tuple[int, float]] = []

    def prepare(self, state: TrainState, step: int, stop: int) -> bool:
        """Compile what steps `step` … `stop` − 1 need; return whether there was anything to compile."""
        length = stop - step
        if length in self._compiled:
            return False
        begin = time.perf_counter()
        arguments = self._arguments(state, step, [True] * self._seeds)
        self._compiled[length] = self._chunk.lower(*arguments, length=length).compile()
        self.compile_seconds += time.perf_counter() - begin
        return True

    def __call__(
        self, state: TrainState, step: int, stop: int, active: Sequence[bool] = ()
    ) -> tuple[TrainState, dict[str, np.ndarray], float]:
        """Run steps `step` … `stop` − 1; return the state, the metrics of each step and the seconds taken.

        Of several seeds those that are not `active` keep their state; by default all are.
        """
        length = stop - step
        self.prepare(state, step, stop)
        arguments = self._arguments(state, step, active or [True] * self._seeds)
        begin = time.perf_counter()
        state, metrics = self._compiled[length](*arguments)
        values = jax.device_get(metrics)
        seconds = time.perf_counter() - begin
        self.timings.append((length, seconds))
        return state, values, seconds

    def _arguments(self, state: TrainState, step: int, active: Sequence[bool]) -> tuple[Any, ...]:
        if self._data is None:
            self._data = tuple(self._place(bucket) for bucket in self._buckets)
        epoch, first = divmod(step, self._setup.plan.steps_per_epoch)
        seeds = (self._setup.mesh.replicate(np.array(active)),) if self._seeds > 1 else ()
        return state, *seeds, self._data, np.int32(epoch), np.int32(first)

    def _place(self, bucket: Bucket) -> dict[str, jax.Array]:
        return self._setup.mesh.place_dataset(bucket.cut(self._setup.task.train))

    def timing(self) -> dict[str, float]:
        """Return the median step time, the throughput, and the time spent in steps and in compilation.

        A step is one of all seeds together.
        """
        points = self._seeds * self._batch * self._setup.task.points_per_sample
        return timing(self.timings, points, self.compile_seconds)

    def close(self) -> None:
        """Release the data and forget the times; the compiled programs stay, for the training of other seeds."""
        self._data = None
        self.compile_seconds, self.timings = 0.0, []

    def compiled_text(self, length: int) -> str:
        """Return the compiled program of chunks of `length` steps, which `prepare` made, as its compiler prints it."""
        return self._compiled[length].as_text()

    def temporary_bytes(self) -> int | None:
        """Return the temporary memory of the largest chunk as its compiler plans it, None where it does not say."""
        plans = [compiled.memory_analysis() for compiled in self._compiled.values()]
        return max((plan.temp_size_in_bytes for plan in plans if plan is not None), default=None)

    def describe(self) -> str:
        """Return `timing` as one line."""
        return describe_timing(self.timing(), self._setup.task.points_are)
