"""The same program on 1 and on 8 devices; each runs in its own process, for the device count is fixed at start."""

import json
import socket
import time

import numpy as np
import pytest

from flare_jax.convert.checkpoints import checkpoint_steps
from tests.experiments.programs import TINY, environment, pdebench, write_elasticity
from tests.program_server import run_program, start_program

EIGHT = environment(XLA_FLAGS="--xla_force_host_platform_device_count=8", JAX_DEFAULT_MATMUL_PRECISION="highest")
MESH = ("--config.mesh.data=2", "--config.mesh.points=4")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_elasticity(folder)
    return folder


def test_loss_and_gradients_are_equal_on_1_and_8_devices(data_dir, tmp_path):
    result = run_program("tests.experiments.gradients_program", [str(data_dir), str(tmp_path)], env=EIGHT)
    assert result.returncode == 0, result.stderr[-3000:]
    one, eight = (dict(np.load(tmp_path / f"{name}.npz")) for name in ("one", "eight"))
    for model, blocks, gathers in (("flare", 2, 1), ("flarepp", 1, 2)):
        sums, independent = eight.pop(f"{model} sums").T.tolist()
        assert all(independent), model  # so that a scheduler can have the device compute meanwhile
        parameters = sum(value.nbytes for name, value in eight.items() if name.startswith(f"{model} ")) - 4  # the loss
        # Gradients are summed once, as one vector. All other sums are those of the gathers: of 2 samples of a device,
        # 4 heads and 8 latents the maxima, the masses with weighted sums of width 4, and the gradient of the latents;
        # and a few numbers of the loss, which may lie beside any of them.
        assert [size for size in sums if size >= parameters] == [pytest.approx(parameters, abs=64)], model
        rest = sum(sums) - parameters - blocks * gathers * 4 * 2 * 4 * 8 * (2 * 4 + 2)
        assert 0 <= rest <= 128, (model, sums)
        assert not one.pop(f"{model} sums").size
    del one["luna sums"], eight["luna sums"]
    losses = [name for name in one if name.endswith("loss")]
    assert len(losses) == 4
    for name in losses:
        np.testing.assert_allclose(eight[name], one[name], rtol=1e-5)
    for model in ("flare ", "flarepp ", "luna ", "tokens"):
        gradients = {name: value for name, value in one.items() if name.startswith(model) and name not in losses}
        scale = max(np.abs(value).max() for value in gradients.values())
        for name, value in gradients.items():
            np.testing.assert_allclose(eight[name], value, rtol=1e-5, atol=1e-5 * scale, err_msg=name)


def test_checkpoint_of_8_devices_is_restored_on_1_and_back(data_dir, tmp_path):
    run = tmp_path / "run"
    arguments = (*TINY, f"--data_dir={data_dir}", f"--workdir={run}")
    trained = pdebench(*arguments, *MESH, env=EIGHT)
    assert trained.returncode == 0, trained.stderr
    on_eight = json.loads((run / "eval.json").read_text())
    one_device = environment(JAX_DEFAULT_MATMUL_PRECISION="highest")
    for on_one in (pdebench("--mode=eval", f"--workdir={run}", env=one_device), pdebench(*arguments, env=one_device)):
        assert on_one.returncode == 0, on_one.stderr
        result = json.loads((run / "eval.json").read_text())["test/rel_l2"]
        np.testing.assert_allclose(result, on_eight["test/rel_l2"], rtol=1e-5)
    again = pdebench("--mode=eval", f"--workdir={run}", env=EIGHT)
    assert again.returncode == 0, again.stderr


def test_checkpoint_of_4_devices_goes_on_on_1_2_and_8(tmp_path):
    result = run_program("tests.experiments.restored_program", [str(tmp_path)], env=EIGHT)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "all meshes go on" in result.stdout


def test_batch_that_does_not_split_over_devices(data_dir, tmp_path):
    result = pdebench(*TINY, f"--data_dir={data_dir}", f"--workdir={tmp_path}", "--config.mesh.data=8", env=EIGHT)
    assert result.returncode == 2
    assert "train.batch_size=4 does not split over mesh.data=8" in result.stderr


def start_two(run, arguments, env):
    """Start both processes of a run in folder `run`."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    more = [f"--workdir={run}", "--config.mesh.data=2", f"--coordinator_address={address}", "--num_processes=2"]
    return [start_program("experiments.pdebench", [*arguments, *more, f"--process_id={i}"], env=env) for i in range(2)]


def test_two_processes_train_as_one_after_one_was_killed(data_dir, tmp_path):
    shared = (*TINY, f"--data_dir={data_dir}", "--config.train.epochs=10")
    one_device = environment(XLA_FLAGS="", JAX_DEFAULT_MATMUL_PRECISION="highest")
    left, killed = start_two(tmp_path / "two", shared, one_device)
    deadline = time.monotonic() + 200
    while not any(checkpoint_steps(tmp_path / "two" / "checkpoints")) and left.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    killed.kill()
    ended = left.result(60)
    killed.wait(60)
    assert ended.returncode == 1, ended
    assert ended.stderr.strip() == (
        "process 1 of 2 has ended before the run was complete; start the same command again for all processes to go on "
        "from the last complete checkpoint"
    )
    processes = start_two(tmp_path / "two", shared, one_device)
    first, second = (process.result() for process in processes)
    assert (first.returncode, second.returncode) == (0, 0), (first, second)
    assert "resuming from step" in first.stdout, first
    assert pdebench(*shared, f"--workdir={tmp_path / 'one'}", env=one_device).returncode == 0
    one, two = (json.loads((tmp_path / name / "eval.json").read_text()) for name in ("one", "two"))
    np.testing.assert_allclose(two["test/rel_l2"], one["test/rel_l2"], rtol=1e-5)
    assert "training samples" in first.stdout
    assert "training samples" not in second.stdout  # one process speaks for both
