"""Training on streamed data: the same batches as from memory, bit-exact resume, evaluation, measured waiting."""

import dataclasses
import threading
import time

import jax
import numpy as np
import pytest

from data_pipeline.normalizer import Normalizer
from data_pipeline.streaming.cache import build_cache
from data_pipeline.streaming.rows import StoredMask, StoredRows
from experiments.training import disk_source
from experiments.training.checkpoints import Checkpoints
from experiments.training.device_source import DeviceSource
from experiments.training.disk_source import DiskSource
from experiments.training.evaluate import make_evaluator, make_predictor
from experiments.training.loop import train
from experiments.training.mesh import make_mesh
from experiments.training.records import read_log
from experiments.training.setup import build_setup
from experiments.training.task import Loss
from tests.experiments.programs import environment
from tests.experiments.training.runs import Runs
from tests.experiments.training.toy import toy_config, toy_params, toy_task
from tests.program_server import run_program

COUNTS = np.array([8, 3, 5, 8, 2, 7, 8, 4, 6, 8, 8, 3, 5, 7, 2, 8, 4, 8, 6, 8, 3, 8, 5, 8])


def _masked(function):
    def loss(prediction, batch):
        squares = (prediction - batch["y"]) ** 2 * batch["mask"][..., None]
        return squares.sum(axis=(1, 2)) / batch["mask"].sum(axis=1)

    return loss


def _stored(arrays, folder, masked):
    """Return the arrays of a task as rows of a cache, and as they are in memory."""
    counts = COUNTS[: len(arrays["x"])] if masked else np.full(len(arrays["x"]), 8)

    def read(number):
        return {name: value[number, : counts[number]] for name, value in arrays.items()}

    cache = build_cache(folder, len(counts), read)
    width = {name: value.shape[-1] for name, value in arrays.items()}
    rows = {
        name: StoredRows(cache, name, np.arange(len(counts)), 8, tuple(range(width[name])), Normalizer.identity(1))
        for name in arrays
    }
    mask = np.arange(8) < counts[:, None]
    dense = {name: value * mask[..., None] for name, value in arrays.items()}
    return (rows | {"mask": StoredMask(counts, 8)}, dense | {"mask": mask}) if masked else (rows, dense)


def tasks(folder, masked=False):
    """Return the toy task with streamed and with dense arrays."""
    task = toy_task()
    train_rows, train_dense = _stored(task.train, folder / "train", masked)
    test_rows, test_dense = _stored(task.tests["test"], folder / "test", masked)
    if masked:
        error = _masked(task.metrics["error"])
        loss = Loss.of_prediction(task.predict, error)
        task = dataclasses.replace(task, loss=loss, metrics={"error": error}, bucket_sizes=(4, 8))
    return tuple(
        dataclasses.replace(task, train=train_arrays, tests={"test": test_arrays})
        for train_arrays, test_arrays in ((train_rows, test_rows), (train_dense, test_dense))
    )


def _setup(task, config):
    return build_setup(task, toy_params(), config, 0, make_mesh(1, 1))


@pytest.mark.parametrize(("masked", "accumulation"), [(False, 1), (False, 2), (True, 1)])
def test_streamed_steps_are_those_of_data_on_the_device(tmp_path, masked, accumulation):
    config = toy_config(batch_size=2, accumulation=accumulation)
    results = []
    for task, kind in zip(tasks(tmp_path, masked), (DiskSource, DeviceSource), strict=True):
        setup = _setup(task, config)
        runner, state, losses = kind(setup, config), setup.template, []
        per_epoch = setup.plan.steps_per_epoch
        for epoch in range(2):
            state, values, _ = runner(state, epoch * per_epoch, (epoch + 1) * per_epoch)
            losses.append(values["loss"])
        runner.close()
        results.append((np.concatenate(losses), *state.params.values()))
    for streamed, dense in zip(*results, strict=True):
        np.testing.assert_allclose(streamed, dense, rtol=2e-5, atol=1e-6)


def test_resumed_run_is_bit_exact(tmp_path, monkeypatch):
    config = toy_config(epochs=4, batch_size=3)
    runs = Runs(config, tasks(tmp_path, masked=True)[0], lambda seed: toy_params())

    def run(name):
        state = runs.train(tmp_path / name)
        return [np.asarray(leaf) for leaf in jax.tree.leaves(state._replace(key=jax.random.key_data(state.key)))]

    class Stop(Exception):
        pass

    original = Checkpoints.save

    def save(self, state, step, metrics):
        original(self, state, step, metrics)
        if step >= 14:
            self.wait()
            raise Stop

    straight = run("straight")
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save)
        with pytest.raises(Stop):
            run("parts")
    resumed = run("parts")
    assert read_log(tmp_path / "parts" / "metrics.jsonl")[-1]["event"] == "timing"
    for one, other in zip(straight, resumed, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_runner_can_begin_anywhere(tmp_path):
    """Not only where an epoch begins: the batches are those of the straight run."""
    config = toy_config(batch_size=3)
    setup = _setup(tasks(tmp_path)[0], config)
    key = np.asarray(jax.random.key_data(setup.template.key))
    runner = DiskSource(setup, config)
    everything = list(runner._order(key, 0))
    assert len(everything) == setup.plan.steps
    for (bucket, rows), (other_bucket, other) in zip(everything[5:], runner._order(key, 5), strict=True):
        assert bucket == other_bucket
        np.testing.assert_array_equal(rows, other)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("batch", [1, 3, 20])
def test_streamed_evaluation_is_that_of_arrays_in_memory(tmp_path, masked, batch):
    mesh, results = make_mesh(1, 1), []
    for task in tasks(tmp_path, masked):
        data, seen = mesh.place_dataset(task.tests["test"]), set()

        def predict(params, rows, key, task=task, seen=seen):
            seen.add(rows["x"].shape[0])
            return task.predict(params, rows, key)

        evaluate = make_evaluator(dataclasses.replace(task, predict=predict), batch, mesh)
        results.append(evaluate(toy_params(), data)["error"])
        assert seen == {min(batch, data["x"].shape[0])}
        results.append(make_predictor(task, mesh)(toy_params(), data, 4))
    np.testing.assert_allclose(results[0], results[2], rtol=1e-5)
    np.testing.assert_allclose(results[1], results[3], rtol=1e-5)


def test_waiting_for_input_is_measured_and_logged(tmp_path, monkeypatch, capsys):
    original = StoredRows.load

    def slow(self, *arguments):
        time.sleep(0.02)
        return original(self, *arguments)

    monkeypatch.setattr(StoredRows, "load", slow)
    config = toy_config(epochs=2)
    (tmp_path / "run").mkdir()
    train(_setup(tasks(tmp_path)[0], config), config, tmp_path / "run")
    lines = [line for line in read_log(tmp_path / "run" / "metrics.jsonl") if line["event"] in ("train", "timing")]
    assert all(0 <= line["input_wait_percent"] <= 100 for line in lines)
    # Three threads read 40 ms for each step of far less: nearly all of the time is waiting.
    assert lines[-1]["input_wait_percent"] > 50
    assert lines[-1]["input_wait_s"] > 0.05
    assert "waiting for input" in capsys.readouterr().out


def test_batches_are_read_while_steps_run(tmp_path, monkeypatch):
    """With steps that take longer than reading, nothing is waited for after the first batch."""
    original = disk_source.make_step

    def make_slow_step(*arguments):
        step = original(*arguments)

        def slow_step(state, batch):
            state, metrics = step(state, batch)
            rest = lambda x: (time.sleep(0.02), x)[1]  # noqa: E731
            loss = jax.pure_callback(rest, jax.ShapeDtypeStruct((), np.float32), metrics["loss"])
            return state._replace(step=state.step + (0 * loss).astype(int)), {**metrics, "loss": loss}

        return slow_step

    monkeypatch.setattr(disk_source, "make_step", make_slow_step)
    config = toy_config(batch_size=4, epochs=4)
    setup = _setup(tasks(tmp_path)[0], config)
    runner = DiskSource(setup, config)
    state, _, _ = runner(setup.template, 0, 6)
    _, values, seconds = runner(state, 6, 24)
    runner.close()
    assert seconds > 18 * 0.02
    assert values["input_wait_s"] < 0.2 * seconds


def test_threads_end_with_the_training(tmp_path):
    config = toy_config(epochs=1)
    (tmp_path / "run").mkdir()
    train(_setup(tasks(tmp_path)[0], config), config, tmp_path / "run", quiet=True)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_four_devices_agree_with_one(tmp_path):
    result = run_program(
        "tests.experiments.training.streamed_program",
        [str(tmp_path)],
        env=environment(XLA_FLAGS="--xla_force_host_platform_device_count=4", JAX_PLATFORMS="cpu"),
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "agree" in result.stdout
