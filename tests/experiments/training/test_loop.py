"""A training from its first step to its end, its records and its evaluations."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matplotlib.figure import Figure

from experiments.figures import draw_optimization
from experiments.training.costs import measure
from experiments.training.evaluate import make_evaluator
from experiments.training.loop import train
from experiments.training.mesh import make_mesh
from experiments.training.optimizers import build_packing, peak_rates
from experiments.training.plan import make_plan
from experiments.training.records import read_log
from experiments.training.sampling import Epochs
from experiments.training.setup import build_setup
from experiments.training.state import create_state
from experiments.training.step import average_decay, make_step
from experiments.training.task import Loss
from tests.experiments.training.toy import losses_of, toy_config, toy_params, toy_task
from tests.experiments.training.toy_runs import arrays_of, toy_runs, train_toy


def test_training_lowers_the_loss_and_logs_it_and_is_not_done_again_where_it_is_finished(tmp_path):
    runs = toy_runs(toy_config())
    state = runs.train(tmp_path)
    log = read_log(tmp_path / "metrics.jsonl")
    losses = [line["loss"] for line in log if line["event"] == "train"]
    assert int(state.step) == 24
    assert losses[-1] < 0.5 * losses[0]
    assert any("test/error_ema" in line and "test/error_raw" in line for line in log)
    assert log[-1]["event"] == "timing"
    for a, b in zip(arrays_of(state), arrays_of(runs.train(tmp_path)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert read_log(tmp_path / "metrics.jsonl") == log


def test_a_run_records_its_costs_and_the_errors_on_training_samples_from_before_its_first_step(tmp_path):
    config = toy_config(epochs=30)
    config.checkpoint.every = 30  # besides those of the evaluations
    setup, _ = train_toy(config, tmp_path)
    log = read_log(tmp_path / "metrics.jsonl")
    evaluations = [line for line in log if line["event"] == "eval"]
    first, last = evaluations[0], evaluations[-1]
    assert (first["step"], first["epoch"], len(evaluations)) == (0, 0.0, 11)
    data = setup.mesh.place_dataset(setup.task.tests["test"])
    assert first["test/error_raw"] == np.mean(setup.evaluate(toy_params(), data)["error"])
    assert last["test/error_raw"] < 0.1 * first["test/error_raw"]
    # The test is the first training samples of this problem.
    assert all(line["train/error_raw"] == line["test/error_raw"] for line in evaluations)
    (timing,) = [line for line in log if line["event"] == "timing"]
    assert timing["parameters"] == 3
    assert timing["epoch_s"] == pytest.approx(1e-3 * timing["step_ms"] * 6)
    assert timing["peak_bytes"] > 2**20
    assert timing["peak_of"] == ("device" if jax.default_backend() == "gpu" else "process")
    assert timing["compile_s"] > 0


@pytest.mark.parametrize(("every", "count"), [(1, 10), (7, 10), (30, 4)])
def test_errors_on_training_samples_are_measured_about_ten_times(every, count):
    config = toy_config(epochs=100)
    config.eval.every = every
    plan = make_plan(config, 24)
    steps = [step for step in range(1, plan.steps + 1) if plan.evaluates_training(step)]
    assert len(steps) == count
    assert steps[-1] == plan.steps
    assert all(plan.evaluates(step) for step in steps)


@pytest.mark.parametrize("steps", [1, 13, 600])
def test_steps_are_timed_without_training(tmp_path, steps):
    config = toy_config(epochs=0, steps=steps)
    setup = build_setup(toy_task(), toy_params(), config, 0, make_mesh(1, 1))
    costs, text = measure(setup, config)
    assert costs["epoch_s"] > 0
    assert "3 parameters" in text
    assert list(tmp_path.iterdir()) == []


def test_a_run_with_muon_records_and_draws_both_of_its_learning_rates_and_no_beta1_that_it_has_not(tmp_path, capsys):
    def predict(params, batch, key):
        return batch["x"] @ params["block.kernel"] + params["a.bias"]

    task, params = toy_task(), {"block.kernel": jnp.array([[0.5], [0.25]]), "a.bias": jnp.zeros(1)}
    loss = Loss.of_prediction(predict, task.metrics["error"])
    config = toy_config(epochs=1)
    config.optimizer.name, config.optimizer.muon_learning_rate = "muon", 0.01
    setup = build_setup(
        replace(task, predict=predict, loss=loss), params, config, 0, make_mesh(1, 1), matrices=["block.kernel"]
    )
    train(setup, config, tmp_path)
    log = read_log(tmp_path / "metrics.jsonl")
    (line,) = [line for line in log if line["event"] == "train"]
    assert line["muon_learning_rate"] == pytest.approx(0.05 * line["learning_rate"])
    assert "beta1" not in line
    assert f"lr {line['learning_rate']:.2e}, of matrices {line['muon_learning_rate']:.2e}  " in capsys.readouterr().out
    gradient, rate = Figure().subplots(1, 2)
    draw_optimization(gradient, rate, log)
    assert [curve.get_ydata() for curve in rate.lines] == [[line["learning_rate"]], [line["muon_learning_rate"]]]
    assert [text.get_text() for text in rate.get_legend().get_texts()] == ["AdamW", "Muon"]
    assert peak_rates(config.optimizer) == "optimizer.learning_rate=0.2 or optimizer.muon_learning_rate=0.01"


def test_ema_follows_its_closed_form():
    packing = build_packing("adamw", toy_params())
    still = optax.sgd(0.0)
    state = create_state(toy_params(), packing, still, 0, ema=True)
    moved = jax.tree.map(lambda x: x + 1.0, state.params)
    step = make_step(toy_task(), still, packing, ema_decay=0.4)
    batch = {name: jnp.asarray(value[None, :4]) for name, value in toy_task().train.items()}
    state = state._replace(params=moved)
    for _ in range(5):
        state, _ = step(state, batch)
    for start, now, average in zip(*map(jax.tree.leaves, (packing.pack(toy_params()), moved, state.ema)), strict=True):
        left = 1 / 10 * 2 / 11 * 3 / 12 * 4 / 13 * 5 / 14
        np.testing.assert_allclose(average, now + left * (start - now), rtol=1e-6)
    np.testing.assert_allclose([average_decay(0.4, step) for step in (4, 5, 6, 1000)], [5 / 14, 0.4, 0.4, 0.4])


def test_averaged_weights_of_a_short_run_are_no_worse_than_the_raw_ones(tmp_path):
    """With the horizon of 1000 steps that a long run has, the average of 360 would be mostly its beginning."""
    config = toy_config(epochs=60, ema_decay=0.999)
    config.eval.every = config.checkpoint.every = 60
    train_toy(config, tmp_path)
    *_, last = [line for line in read_log(tmp_path / "metrics.jsonl") if line["event"] == "eval"]
    assert last["test/error_ema"] < 1.05 * last["test/error_raw"]


@pytest.mark.parametrize("name", ["cosine", "cosine_restarts"])
def test_schedules_by_epoch_advance_by_step_in_runs_given_in_steps(name):
    """1500 steps of 1000-step epochs once ended at half the peak."""
    config = toy_config(epochs=0, steps=9, batch_size=4)
    config.schedule.name = name
    setup = build_setup(toy_task(), toy_params(), config, 0, make_mesh(1, 1))
    rates = np.array([setup.schedules["learning_rate"](step) for step in range(9)]) / config.optimizer.learning_rate
    np.testing.assert_allclose(rates, (1 + np.cos(np.pi * np.arange(9) / 9)) / 2, rtol=1e-5)
    assert setup.plan.steps_per_epoch == 6
    by_epoch = toy_config(epochs=2)
    by_epoch.schedule.name = name
    rate = build_setup(toy_task(), toy_params(), by_epoch, 0, make_mesh(1, 1)).schedules["learning_rate"]
    np.testing.assert_allclose([rate(5), rate(6)], [0.2, 0.1], rtol=1e-6)


def test_accumulated_batches_equal_one_large_batch():
    with jax.enable_x64(True):
        task = toy_task(dtype=np.float64)
        params = {name: jnp.asarray(value, jnp.float64) for name, value in toy_params().items()}
        packing = build_packing("adamw", params)
        optimizer = optax.sgd(0.1)
        step = make_step(task, optimizer, packing, 0.9)
        rows = {name: jnp.asarray(value[:12]) for name, value in task.train.items()}
        results = []
        for count in (1, 3):
            batches = {name: value.reshape(count, 12 // count, *value.shape[1:]) for name, value in rows.items()}
            state, metrics = step(create_state(params, packing, optimizer, 0, ema=False), batches)
            results.append((*jax.tree.leaves(state.params), metrics["loss"], metrics["grad_norm"]))
        for one, three in zip(*results, strict=True):
            np.testing.assert_allclose(one, three, rtol=1e-12)


def test_seeds_change_order_and_only_order_of_data():
    def order(seed, epoch):
        return np.ravel(Epochs((50,), 1, 1).order(jax.random.key(seed), epoch)[0])

    assert not np.array_equal(order(0, 0), order(1, 0))
    assert not np.array_equal(order(0, 0), order(0, 1))
    np.testing.assert_array_equal(np.sort(order(0, 0)), np.arange(50))


def test_steps_mode_runs_that_many_steps(tmp_path):
    config = toy_config(epochs=0, steps=13)
    _, state = train_toy(config, tmp_path)
    assert int(state.step) == 13


@pytest.mark.parametrize(("batch", "seed"), [(1, 0), (3, 0), (7, 0), (50, 0)])
def test_evaluation_does_not_depend_on_the_batch_size(batch, seed):
    task, mesh = toy_task(), make_mesh(1, 1)
    data = mesh.place_dataset(task.tests["test"])
    want = losses_of(task, toy_params(), data)
    seen = []

    def predict(params, batch, key):
        seen.append(batch["x"].shape[0])
        return task.predict(params, batch, key)

    got = make_evaluator(replace(task, predict=predict), batch, mesh)(toy_params(), data)["error"]
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert seen == [min(batch, 7)]  # a batch of 3000 for 3 samples once filled the memory


@pytest.mark.parametrize("batch", [2, 3, 7])
def test_the_training_set_is_evaluated_by_the_program_of_the_test(batch):
    task, mesh = toy_task(), make_mesh(1, 1)
    seen = []

    def predict(params, rows, key):
        seen.append(rows["x"].shape[0])
        return task.predict(params, rows, key)

    evaluate = make_evaluator(replace(task, predict=predict), batch, mesh)
    for split in (task.train, task.tests["test"], {name: value[:1] for name, value in task.train.items()}):
        data = mesh.place_dataset(split)
        np.testing.assert_allclose(
            evaluate(toy_params(), data)["error"], losses_of(task, toy_params(), data), rtol=1e-6
        )
    assert seen == [batch]
    many = {name: np.tile(value, (10, *[1] * (value.ndim - 1))) for name, value in task.train.items()}
    assert len(evaluate(toy_params(), mesh.place_dataset(many))["error"]) == 10 * len(task.train["x"])
    assert seen == [batch, batch]  # in one call instead of many


def test_a_metric_that_overflows_is_null_in_the_log_and_never_best(tmp_path):
    task = toy_task()
    metrics = {"error": lambda prediction, batch: task.metrics["error"](prediction, batch) * jnp.inf}
    config = toy_config(epochs=3)
    train_toy(config, tmp_path, replace(task, metrics=metrics))
    text = (tmp_path / "metrics.jsonl").read_text()
    assert '"test/error_raw": null' in text
    assert "NaN" not in text
    assert "Infinity" not in text
