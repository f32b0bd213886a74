"""Evaluation of every sample exactly once, in batches padded to one size; results per sample."""

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from data_pipeline.streaming.rows import is_stored
from experiments.training.disk_evaluation import make_disk_evaluator
from experiments.training.mesh import Mesh
from experiments.training.packing import Params
from experiments.training.task import Task

PerCase = dict[str, np.ndarray]
# A split is evaluated by the program of the headline test if that takes no more calls.
_MOST_PIECES = 10


def make_evaluator(task: Task, batch_size: int, mesh: Mesh) -> Callable[[Params, Mapping[str, Array]], PerCase]:
    """Return `evaluate(params, data)` -> the metrics of each sample, {name: [S]}, or [S, ...] where they are arrays.

    The last batch is filled up with copies of sample 0, whose results are dropped, so a mean over the result does not
    depend on the batch size; of fewer samples than `batch_size` only these are computed. Samples of the shapes of the
    headline test, such as those of the training set, are evaluated by the program of that test, in pieces of its
    length, since compilation takes longer than most evaluations. Arrays that are streamed from disk are evaluated
    while the next batches are read.
    """
    evaluate_stream = make_disk_evaluator(task, batch_size, mesh)
    shared_shapes, shared_length = _shared(task, batch_size, mesh)

    @partial(jax.jit, static_argnames="count")
    @mesh.traced
    def run(params: Params, data: Mapping[str, Array], *, count: int) -> dict[str, Array]:
        size = min(batch_size, mesh.whole_batch(count))
        batches = -(-count // size)
        index = jnp.arange(batches * size).reshape(batches, size)

        def one(rows: Array) -> dict[str, Array]:
            batch = {name: mesh.constrain_batch(value[None, rows])[0] for name, value in data.items()}
            prediction = task.predict(params, batch, None)
            return {name: metric(prediction, batch) for name, metric in task.metrics.items()}

        results = jax.lax.map(one, jnp.where(index < count, index, 0))
        rows = {name: value.reshape(-1, *value.shape[2:])[:count] for name, value in results.items()}
        return mesh.constrain_replicated(rows)

    @partial(jax.jit, static_argnames="length")
    def cut(data: Mapping[str, Array], first: int, *, length: int) -> dict[str, Array]:
        rows = first + jnp.arange(length)
        return {name: value[jnp.where(rows < len(value), rows, 0)] for name, value in data.items()}

    def evaluate(params: Params, data: Mapping[str, Array]) -> PerCase:
        if is_stored(data):
            return evaluate_stream(params, data)
        count = len(next(iter(data.values())))
        pieces = range(0, count, shared_length)
        if _sample_shapes(data) != shared_shapes or count == shared_length or len(pieces) > _MOST_PIECES:
            return jax.device_get(run(params, data, count=count))
        results = [run(params, cut(data, first, length=shared_length), count=shared_length) for first in pieces]
        return {name: np.concatenate([np.asarray(one[name]) for one in results])[:count] for name in results[0]}

    return evaluate


def _shared(task: Task, batch_size: int, mesh: Mesh) -> tuple[dict[str, tuple[int, ...]] | None, int]:
    """Return the shapes of the samples of the headline test, and its length in whole batches.

    There are no shapes to share without it, for streamed arrays, and on several devices, which cut arrays in their own
    ways.
    """
    data = task.tests.get(task.selection)
    if data is None or is_stored(data) or mesh.devices.size > 1:
        return None, 1
    count = len(next(iter(data.values())))
    size = min(batch_size, mesh.whole_batch(count))
    length = -(-count // size) * size
    return _sample_shapes(data), length


def _sample_shapes(data: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    return {name: value.shape[1:] for name, value in data.items()}


def make_predictor(task: Task, mesh: Mesh) -> Callable[[Params, Mapping[str, Array], int], np.ndarray]:
    """Return `predict(params, data, case)` -> the prediction for one sample in data units, [N, C] or [N, T, C]."""

    @jax.jit
    @mesh.traced
    def run(params: Params, data: Mapping[str, Array], case: Array) -> Array:
        batch = {name: value[case][None] for name, value in data.items()}
        return mesh.constrain_replicated(task.predict(params, batch, None)[0])

    def predict(params: Params, data: Mapping[str, Array], case: int) -> np.ndarray:
        if is_stored(data):
            data, case = mesh.place_dataset({name: value[case][None] for name, value in data.items()}), 0
        return jax.device_get(run(params, data, np.int32(case)))

    return predict
