"""Training on data that are read from disk while the device computes.

Threads read the next batches and send them to the device; the steps are dispatched without waiting for their results.
Batches come in the same order as from data on the device, so that a run can be resumed at any step.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array

from data_pipeline.streaming.prefetch import Prefetcher
from experiments.training.disk_evaluation import AHEAD, IN_FLIGHT, WORKERS
from experiments.training.idle import IdleClock
from experiments.training.sampling import Epochs, bucket_lengths, buckets_of
from experiments.training.setup import Setup
from experiments.training.state import TrainState
from experiments.training.step import make_step
from experiments.training.task import Batch
from experiments.training.timing import describe_timing, timing


class DiskSource:
    """Runs steps on streamed batches; compiles one step for each size of a bucket.

    `timings` are those of chunks of steps without compilation; `waited` counts the seconds for which the device had
    nothing to do because the next batch was not ready.
    """

    def __init__(self, setup: Setup, config: Any, ahead: int = AHEAD, workers: int = WORKERS) -> None:
        self._setup, self._ahead, self._workers = setup, ahead, workers
        task, train, mesh = setup.task, config.train, setup.mesh
        batch = train.batch_size * train.accumulation
        self._buckets = buckets_of(task, batch)
        self._epochs = Epochs(bucket_lengths(task, batch), train.batch_size, train.accumulation)
        step = make_step(task, setup.optimizer, setup.packing, train.ema_decay)

        @mesh.traced
        def replicated_step(state: TrainState, batches: Batch) -> tuple[TrainState, dict[str, Array]]:
            return mesh.constrain_replicated(step(state, batches))

        self._step = jax.jit(replicated_step, donate_argnums=0)
        self._epoch_order = jax.jit(lambda key, epoch: self._epochs.order(jax.random.wrap_key_data(key), epoch))
        self._compiled: dict[int, Callable[..., Any]] = {}
        self._reader: Prefetcher[tuple[int, np.ndarray], tuple[int, Batch]] | None = None
        self._idle: IdleClock | None = None
        self._position = -1
        self._points = batch * task.points_per_sample
        self.compile_seconds = self.waited = 0.0
        self.timings: list[tuple[int, float]] = []

    def prepare(self, state: TrainState, step: int, stop: int) -> bool:
        """Return False: a step is compiled when the first batch of its size is there."""
        del state, step, stop
        return False

    def __call__(
        self, state: TrainState, step: int, stop: int, active: Sequence[bool] = ()
    ) -> tuple[TrainState, dict[str, np.ndarray], float]:
        """Run steps `step` … `stop` − 1; return the state, the metrics of each step and the seconds taken.

        Among the metrics is `input_wait_s`, the seconds for which the device waited for input. Seeds are trained one
        at a time, so that `active` says nothing.
        """
        del active
        if step != self._position:
            self._open(state, step)
        results: list[dict[str, Array]] = []
        begin, compiled_before = time.perf_counter(), self.compile_seconds
        for _ in range((stop - step) // self._setup.task.loss.repeats):
            length, batch = self._idle.take(self._reader)
            state, metrics = self._compiled_step(length, state, batch)(state, batch)
            self._idle.started(metrics)
            results.append(metrics)
            if len(results) > IN_FLIGHT:
                jax.block_until_ready(results[-1 - IN_FLIGHT])
        values = {name: np.concatenate([np.atleast_1d(one[name]) for one in results]) for name in results[0]}
        seconds = time.perf_counter() - begin - (self.compile_seconds - compiled_before)
        waited = self._idle.seconds()
        self.waited += waited
        self._position = stop
        self.timings.append((stop - step, seconds))
        return state, {**values, "input_wait_s": np.array(waited)}, seconds

    def close(self) -> None:
        """End the threads and forget the times; the compiled steps stay, for the training of other seeds."""
        self._close_threads()
        self._position = -1
        self.compile_seconds = self.waited = 0.0
        self.timings = []

    def _close_threads(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._idle.close()
        self._reader = self._idle = None

    def timing(self) -> dict[str, float]:
        """Return the step time and the throughput, and the share of the time that was spent waiting for input."""
        values = timing(self.timings, self._points, self.compile_seconds)
        return {**values, "input_wait_s": self.waited, "input_wait_percent": 100 * self.waited / values["steps_s"]}

    def describe(self) -> str:
        """Return `timing` as one line."""
        values = self.timing()
        timing_text = describe_timing(values, self._setup.task.points_are)
        return f"{timing_text}, waiting for input {values['input_wait_percent']:.1f} % of the time"

    def temporary_bytes(self) -> int | None:
        """Return the temporary memory of the largest step as its compiler plans it, None where it does not say."""
        plans = [compiled.memory_analysis() for compiled in self._compiled.values()]
        return max((plan.temp_size_in_bytes for plan in plans if plan is not None), default=None)

    def _open(self, state: TrainState, step: int) -> None:
        """Begin to read the batches from `step` on, to the end of the run."""
        self._close_threads()
        self._idle = IdleClock()
        key = np.asarray(jax.random.key_data(state.key))
        self._reader = Prefetcher(self._load, self._order(key, step), ahead=self._ahead, workers=self._workers)
        self._reader.start()

    def _order(self, key: np.ndarray, step: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield bucket and samples [accumulation, B] of the batches from `step` to the end of the run."""
        plan, repeats = self._setup.plan, self._setup.task.loss.repeats
        device, known = _host_device(), -1
        for number in range(step // repeats, plan.steps // repeats):
            epoch, first = divmod(number, plan.steps_per_epoch // repeats)
            if epoch != known:
                # Not on the accelerator, where it would come after the steps that are already dispatched.
                with jax.default_device(device):
                    indices, buckets = map(np.asarray, self._epoch_order(key, epoch))
                known = epoch
            yield int(buckets[first]), indices[first]

    def _load(self, item: tuple[int, np.ndarray]) -> tuple[int, Batch]:
        """Return the number of points of a batch, and the batch on the devices."""
        number, index = item
        bucket, arrays = self._buckets[number], self._setup.task.train
        cases = index if bucket.members is None else bucket.members[index]
        length = arrays["x"].shape[1] if bucket.size is None else bucket.size
        # Waited for here, in a thread, where nothing else waits for it.
        return length, jax.block_until_ready(self._setup.mesh.read_batch(arrays, cases, length))

    def _compiled_step(self, length: int, state: TrainState, batch: Batch) -> Callable[..., Any]:
        if length not in self._compiled:
            begin = time.perf_counter()
            self._compiled[length] = self._step.lower(state, batch).compile()
            self.compile_seconds += time.perf_counter() - begin
        return self._compiled[length]


def _host_device() -> jax.Device | None:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX was told to use accelerators only
        return None
