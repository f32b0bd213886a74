"""Which training samples a step sees: the order of an epoch, rows cut to buckets, windows of rows.

The order is a function of the seed and the epoch alone, so that a resumed run sees the same batches.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Int

from data_pipeline.graphs import cut_edges
from experiments.training.mesh import Mesh
from experiments.training.task import Batch, Task

Rows = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Bucket:
    """Rows `members` of the training set, cut to `size` points; None stands for all rows and points."""

    members: Int[np.ndarray, " R"] | None
    size: int | None

    def cut(self, rows: Rows) -> dict[str, np.ndarray]:
        """Return the arrays of the bucket."""
        if self.members is None:
            return dict(rows)
        chosen = {name: value[self.members] for name, value in rows.items()}
        cut = {name: value[:, : self.size] if value.ndim > 1 else value for name, value in chosen.items()}
        return {**cut, "edges": cut_edges(chosen["edges"])} if "edges" in chosen else cut


def buckets_of(task: Task, least: int = 1) -> tuple[Bucket, ...]:
    """Return the buckets of a task's training set, each of at least `least` samples if all together are so many.

    Rows of a size that too few need go to the next larger size, or with the largest to the one before it.
    """
    if len(task.bucket_sizes) < 2:
        return (Bucket(None, None),)
    counts = task.train["mask"].sum(axis=1)
    needed = np.searchsorted(task.bucket_sizes, counts)
    buckets: list[Bucket] = []
    waiting = np.array([], np.int64)
    for number, size in enumerate(task.bucket_sizes):
        waiting = np.union1d(waiting, np.flatnonzero(needed == number))
        if len(waiting) * task.windows >= max(1, least):
            buckets.append(Bucket(waiting, size))
            waiting = waiting[:0]
    if len(waiting):
        # No batch would ever hold the longest rows: they take those of the size before along.
        before = buckets.pop().members if buckets else waiting
        buckets.append(Bucket(np.union1d(before, waiting), task.bucket_sizes[int(needed.max())]))
    return tuple(buckets)


def bucket_lengths(task: Task, least: int = 1) -> tuple[int, ...]:
    """Return the number of training samples in every bucket of `buckets_of`."""
    return tuple(
        task.num_train if bucket.members is None else len(bucket.members) * task.windows
        for bucket in buckets_of(task, least)
    )


@dataclass(frozen=True)
class Epochs:
    """The batches of an epoch: `lengths` samples per bucket, incomplete batches of each left out."""

    lengths: tuple[int, ...]
    batch_size: int
    accumulation: int
    windows: int = 1

    def order(self, key: Array, epoch: Array | int) -> tuple[Int[Array, "S A B"], Int[Array, " S"]]:
        """Return the samples of each batch of `epoch` (from 0), numbered within their bucket, and the buckets."""
        key = jax.random.fold_in(jax.random.fold_in(key, 0x5EED), epoch)
        if len(self.lengths) == 1:
            order = self._bucket_order(key, self.lengths[0])
            return order, jnp.zeros(len(order), jnp.int32)
        keys = jax.random.split(key, len(self.lengths) + 1)
        orders = [self._bucket_order(*pair) for pair in zip(keys[1:], self.lengths, strict=True)]
        buckets = np.repeat(np.arange(len(orders), dtype=np.int32), [len(order) for order in orders])
        mixed = jax.random.permutation(keys[0], len(buckets))
        return jnp.concatenate(orders)[mixed], jnp.asarray(buckets)[mixed]

    def _bucket_order(self, key: Array, length: int) -> Int[Array, "S A B"]:
        batches = length // (self.batch_size * self.accumulation)
        used = batches * self.batch_size * self.accumulation
        return jax.random.permutation(key, length)[:used].reshape(batches, self.accumulation, self.batch_size)

    def gather(self, rows: Mapping[str, Array], index: Int[Array, "A B"], mesh: Mesh) -> Batch:
        """Return the batches [accumulation, B, ...] of samples `index` of one bucket."""
        batches = {name: mesh.constrain_batch(value[index // self.windows]) for name, value in rows.items()}
        return batches if self.windows == 1 else {**batches, "window": mesh.constrain_batch(index % self.windows)}
