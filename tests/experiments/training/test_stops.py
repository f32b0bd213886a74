"""Where a training stops, what it has saved by then, and how it goes on."""

import itertools
import signal
from dataclasses import replace

import numpy as np
import pytest

from experiments import seeds
from experiments.errors import UserError
from experiments.training.checkpoints import Checkpoints
from experiments.training.mesh import make_mesh
from experiments.training.plan import make_plan
from experiments.training.records import MetricsLog, read_log
from experiments.training.seed_run import saved_checkpoints
from experiments.training.setup import build_setup
from runtime import signals
from tests.experiments.training.toy import toy_config, toy_params, toy_task
from tests.experiments.training.toy_runs import arrays_of, toy_runs, train_toy


@pytest.mark.parametrize("accumulation", [1, 2])
def test_resumed_run_is_bit_exact(tmp_path, accumulation):
    runs = toy_runs(toy_config(epochs=6, accumulation=accumulation))
    straight, steps = runs.train(tmp_path / "straight"), runs.setup.plan.steps

    class Stop(Exception):
        pass

    # Stop the first part after half of the checkpoints, as a kill would, then resume.
    original, saved = Checkpoints.save, []

    def save(self, state, step, metrics):
        original(self, state, step, metrics)
        saved.append(step)
        if step >= steps // 2:
            self.wait()
            raise Stop

    Checkpoints.save = save
    try:
        with pytest.raises(Stop):
            runs.train(tmp_path / "parts")
    finally:
        Checkpoints.save = original
    assert 0 < saved[-1] < steps
    resumed = runs.train(tmp_path / "parts")
    for a, b in zip(arrays_of(straight), arrays_of(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    straight_log, resumed_log = (
        [
            {k: v for k, v in line.items() if k not in ("step_ms",)}
            for line in read_log(tmp_path / name / "metrics.jsonl")
        ]
        for name in ("straight", "parts")
    )
    drop = lambda log: [line for line in log if line["event"] != "timing"]  # noqa: E731
    assert drop(straight_log) == drop(resumed_log)


def test_final_state_is_saved_whatever_the_cadence(tmp_path):
    config = toy_config(epochs=5)
    config.checkpoint.every = 3
    config.eval.every = 4
    setup, _ = train_toy(config, tmp_path)
    assert saved_checkpoints(setup, tmp_path).steps()[-1] == setup.plan.steps == 30


def test_nan_loss_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    config = toy_config(epochs=20)
    config.optimizer.learning_rate = 1e30
    config.optimizer.name = "lion"
    config.train.clip_norm = 0.0
    with pytest.raises(
        UserError,
        match=r"became NaN or infinite at step \d+.*lower optimizer.learning_rate=1e\+30 or clip gradients by",
    ):
        train_toy(config, tmp_path)
    setup = build_setup(toy_task(), toy_params(), config, 0, make_mesh(1, 1))
    kept = saved_checkpoints(setup, tmp_path)
    assert np.isfinite(kept.restore(setup.template, kept.steps()[-1]).params["decay"]).all()


@pytest.mark.parametrize(("steps", "every"), [(1, 0), (3, 1)])
def test_a_state_that_is_not_finite_stops_before_it_is_saved(tmp_path, steps, every):
    config = toy_config(epochs=0, steps=steps)
    # The first update overflows, after a loss and a gradient that are good.
    config.optimizer.learning_rate, config.optimizer.weight_decay = 3e38, 1.0
    config.schedule.name = "constant"
    config.train.clip_norm = 0.0
    config.checkpoint.every = every
    with pytest.raises(UserError, match=r"the state after step 1 is not finite .* the checkpoint of step 0 is kept"):
        train_toy(config, tmp_path)
    setup = build_setup(toy_task(), toy_params(), config, 0, make_mesh(1, 1))
    kept = saved_checkpoints(setup, tmp_path)
    assert kept.steps() == [0]
    assert all(np.isfinite(leaf).all() for leaf in arrays_of(kept.restore(setup.template, 0)))


@pytest.mark.parametrize("split", ["test", "val"])
def test_checkpoints_are_ranked_by_validation_and_never_by_the_test(tmp_path, capsys, split):
    """Samples that the first parameters fit make the error grow: an early checkpoint is best, if they validate."""
    task, config = toy_task(), toy_config(epochs=6)
    config.eval.weights, config.checkpoint.keep_last = "raw", 1
    x = task.tests["test"]["x"]
    task = replace(task, tests={split: {"x": x, "y": x @ toy_params()["a.kernel"]}}, selection=split)
    setup, _ = train_toy(config, tmp_path, task)
    lines = [line for line in read_log(tmp_path / "metrics.jsonl") if line["event"] == "eval" and line["step"]]
    log = [line[f"{split}/error_raw"] for line in lines]
    best = 6 * (1 + int(np.argmin(log)))
    assert (len(log), best) == (6, 6)
    saved = saved_checkpoints(setup, tmp_path)
    assert saved.steps() == ([36] if split == "test" else [best, 36])
    seeds._say_if_better(setup, tmp_path, 36)
    said = capsys.readouterr().out
    assert ("val error was best at step" in said and f"--step={best} evaluates" in said) == (split == "val")


@pytest.fixture(scope="module")
def straight_run(tmp_path_factory):
    """A run that nobody ended: what trains it, its folder and its final state."""
    config, folder = toy_config(epochs=6), tmp_path_factory.mktemp("straight")
    config.checkpoint.every, config.eval.every = 5, 5
    runs = toy_runs(config)
    return runs, folder, runs.train(folder)


@pytest.mark.parametrize("signal_at", [0, 7, 24])
def test_a_run_that_is_asked_to_end_keeps_its_steps_and_ends_as_if_it_had_not_been(
    straight_run, tmp_path, monkeypatch, signal_at
):
    runs, folder, straight = straight_run
    write = MetricsLog.write

    def ask(self, event, step, values):
        write(self, event, step, values)
        if step >= signal_at:
            monkeypatch.setattr(signals._state, "requested", signal.SIGTERM)

    if signal_at == 0:
        monkeypatch.setattr(signals._state, "requested", signal.SIGTERM)
    monkeypatch.setattr(MetricsLog, "write", ask)
    with pytest.raises(signals.Interrupted) as stopped:
        runs.train(tmp_path)
    monkeypatch.undo()
    assert stopped.value.status == 143
    setup, log = runs.setup, read_log(tmp_path / "metrics.jsonl")
    reached = saved_checkpoints(setup, tmp_path).steps()[-1]
    assert reached == max([line["step"] for line in log], default=0)
    assert reached < setup.plan.steps
    for a, b in zip(arrays_of(straight), arrays_of(runs.train(tmp_path)), strict=True):
        np.testing.assert_array_equal(a, b)
    kept = [saved_checkpoints(setup, place).steps() for place in (folder, tmp_path)]
    assert kept[0] == kept[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 3, "steps": 3}, "exactly one of them must be positive"),
        ({"epochs": 0, "steps": 0}, "exactly one of them must be positive"),
        ({"batch_size": 30}, "batch_size=30 times train.accumulation=1 samples, but there are 24"),
    ],
)
def test_plans_that_cannot_be(changes, message):
    with pytest.raises(UserError, match=message):
        make_plan(toy_config(**changes), 24)


def test_plan_stops_are_the_same_from_every_stop():
    plan = make_plan(toy_config(epochs=0, steps=100), 24)
    stops, step = [], 0
    while step < plan.steps:
        step = plan.next_stop(step)
        stops.append(step)
    assert stops[-1] == 100
    assert {6, 10, 12, 18, 20}.issubset(stops)
    assert all(plan.next_stop(a) == b for a, b in itertools.pairwise(stops))
