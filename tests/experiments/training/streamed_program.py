"""Streamed training and evaluation on 2 × 2 devices and on one; run by test_streaming.py in a process of its own."""

import sys
from dataclasses import fields
from pathlib import Path
from typing import ClassVar

import jax
import numpy as np

from data_pipeline.streaming.rows import StoredRows
from experiments.training.disk_source import DiskSource
from experiments.training.mesh import make_mesh
from experiments.training.setup import build_setup
from tests.experiments.training.test_streaming import tasks
from tests.experiments.training.toy import toy_config, toy_params


class CountedRows(StoredRows):
    """Rows that note what is read of them: how many samples, and which points."""

    reads: ClassVar[set[tuple[int, int, int]]] = set()

    def load(self, cases, length, first=0, stop=None):
        CountedRows.reads.add((len(cases), first, stop))
        return super().load(cases, length, first, stop)


def own_parts(folder: Path) -> None:
    """A device's part of a batch is read by itself, so that a host reads what its devices hold."""
    task, _ = tasks(folder, masked=True)
    rows = {name: value for name, value in task.train.items() if isinstance(value, StoredRows)}
    counted = {name: CountedRows(*(getattr(value, field.name) for field in fields(value) if field.init))
               for name, value in rows.items()}  # fmt: skip
    cases = np.arange(8).reshape(2, 4)
    batch = make_mesh(2, 2).read_batch(counted, cases, 8)
    for name, value in rows.items():
        np.testing.assert_array_equal(batch[name], value.load(cases.ravel(), 8).reshape(batch[name].shape))
    assert CountedRows.reads == {(4, 0, 4), (4, 4, 8)}, CountedRows.reads


def results(folder: Path, data: int, points: int) -> list[np.ndarray]:
    """Return the losses of one epoch, the parameters after it and the metrics of the test."""
    config = toy_config(batch_size=4)
    task, _ = tasks(folder, masked=True)
    setup = build_setup(task, toy_params(), config, 0, make_mesh(data, points))
    runner = DiskSource(setup, config)
    state, values, _ = runner(setup.template, 0, setup.plan.steps_per_epoch)
    runner.close()
    params = setup.weights(state)["raw"]
    return [values["loss"], *params.values(), setup.evaluate(params, task.tests["test"])["error"]]


if __name__ == "__main__":
    assert jax.device_count() == 4
    own_parts(Path(sys.argv[1]))
    for several, one in zip(results(Path(sys.argv[1]), 2, 2), results(Path(sys.argv[1]), 1, 1), strict=True):
        np.testing.assert_allclose(several, one, rtol=1e-5)
    print("streams on four devices and on one agree")
