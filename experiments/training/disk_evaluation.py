"""Evaluation of samples that are read from disk while the device computes."""

from collections.abc import Callable, Mapping

import jax
import numpy as np
from jax import Array

from data_pipeline.clouds import choose_buckets
from data_pipeline.streaming.prefetch import Prefetcher
from data_pipeline.streaming.rows import Stored
from experiments.training.mesh import Mesh
from experiments.training.packing import Params
from experiments.training.task import Batch, Task

# Batches on the device beside the one in use, and threads that read them.
AHEAD, WORKERS = 3, 3
# Batches that the device may have before it: one more than it works on, so that it never waits for the host.
IN_FLIGHT = 2
_EVALUATION_BUCKETS = 4


def make_disk_evaluator(task: Task, batch_size: int, mesh: Mesh) -> Callable[[Params, Stored], dict[str, np.ndarray]]:
    """Return `evaluate(params, arrays)` -> the metrics of each sample, {name: [S]}, of arrays read from disk.

    Samples are taken in the order of their sizes and cut to a few of these; the last batch is filled up with copies,
    whose results are dropped.
    """

    @jax.jit
    @mesh.traced
    def run(params: Params, batches: Mapping[str, Array]) -> dict[str, Array]:
        batch = {name: value[0] for name, value in batches.items()}
        prediction = task.predict(params, batch, None)
        return mesh.constrain_replicated({name: metric(prediction, batch) for name, metric in task.metrics.items()})

    def evaluate(params: Params, arrays: Stored) -> dict[str, np.ndarray]:
        counts, longest = arrays["x"].counts, arrays["x"].shape[1]
        order = np.argsort(counts, kind="stable")
        sizes = [longest]
        if "mask" in arrays:
            chosen = choose_buckets(counts, _EVALUATION_BUCKETS)
            sizes = [min(longest, -(-size // mesh.points) * mesh.points) for size in chosen]
        together = min(batch_size, mesh.whole_batch(len(order)))
        groups = [order[first : first + together] for first in range(0, len(order), together)]

        def load(cases: np.ndarray) -> Batch:
            filled = np.concatenate([cases, np.repeat(cases[:1], together - len(cases))])
            length = next(size for size in sizes if size >= counts[cases].max())
            return mesh.read_batch(arrays, filled[None], length)

        results: list[dict[str, Array]] = []
        with Prefetcher(load, groups, ahead=AHEAD, workers=WORKERS) as batches:
            for batch in batches:
                results.append(run(params, batch))
                if len(results) > IN_FLIGHT:
                    jax.block_until_ready(results[-1 - IN_FLIGHT])
        back = np.argsort(order)
        return {
            name: np.concatenate([np.asarray(one[name]) for one in results])[: len(order)][back]
            for name in task.metrics
        }

    return evaluate
