"""Program of tests/experiments/test_devices.py: a checkpoint of 4 devices goes on on 1, 2 and 8."""

import shutil
import sys
from pathlib import Path

import jax
import numpy as np

from experiments.training.device_source import DeviceSource
from experiments.training.mesh import make_mesh
from experiments.training.seed_run import SeedRun
from experiments.training.setup import Setup, build_setup
from tests.experiments.training.toy import toy_config, toy_params, toy_task
from tests.experiments.training.toy_runs import arrays_of


def main(folder: Path) -> None:
    """Train 3 steps on 4 devices and save, then 3 more on each mesh, from the same bits to the same result."""
    config = toy_config()

    def begin(data: int, points: int, workdir: Path) -> tuple[Setup, SeedRun, DeviceSource]:
        setup = build_setup(toy_task(), toy_params(), config, 0, make_mesh(data, points))
        return setup, SeedRun(setup, config, workdir), DeviceSource(setup, config)

    _, run, source = begin(2, 2, folder / "four")
    state, _, _ = source(run.initial, 0, 3)
    run.step, saved = 3, arrays_of(state)
    run.save(state, None)
    run.checkpoints.wait()
    run.close()
    _, metrics, _ = source(state, 3, 6)
    for data, points in ((1, 1), (1, 2), (2, 4)):
        workdir = folder / f"on_{data * points}"
        shutil.copytree(folder / "four", workdir)
        setup, run, source = begin(data, points, workdir)
        assert run.restored, workdir
        assert (run.start, setup.mesh.data, setup.mesh.points) == (3, data, points)
        for value, other in zip(arrays_of(run.initial), saved, strict=True):
            np.testing.assert_array_equal(value, other)
        devices = [len(value.sharding.device_set) for value in jax.tree.leaves(run.initial.params)]
        assert set(devices) == {data * points}, devices
        _, now, _ = source(run.initial, 3, 6)
        np.testing.assert_allclose(now["loss"], metrics["loss"], rtol=1e-5)
        run.step = 6
        run.close()
    print("all meshes go on")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
