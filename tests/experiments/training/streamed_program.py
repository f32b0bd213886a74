"""Streamed training and evaluation on 2 × 2 devices and on one; run by test_streaming.py in a process of its own."""

import sys
from pathlib import Path

import jax
import numpy as np

from experiments.training.disk_source import DiskSource
from experiments.training.mesh import make_mesh
from experiments.training.setup import build_setup
from tests.experiments.training.test_streaming import tasks
from tests.experiments.training.toy import toy_config, toy_params


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
    for several, one in zip(results(Path(sys.argv[1]), 2, 2), results(Path(sys.argv[1]), 1, 1), strict=True):
        np.testing.assert_allclose(several, one, rtol=1e-5)
    print("streams on four devices and on one agree")
