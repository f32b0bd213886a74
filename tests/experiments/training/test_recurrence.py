"""Training that presents a batch several times with a carried state, and parameters that are refreshed."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.errors import UserError
from experiments.training.loop import train
from experiments.training.mesh import make_mesh
from experiments.training.optimizers import build_packing, parameter_group
from experiments.training.plan import make_plan
from experiments.training.records import read_log
from experiments.training.seed_run import saved_checkpoints
from experiments.training.setup import build_setup
from experiments.training.state import create_state
from experiments.training.step import make_step
from experiments.training.task import Loss, Losses
from tests.experiments.training.runs import Runs
from tests.experiments.training.toy import toy_config, toy_params, toy_task


def recurrent_task(repeats=3):
    """The toy task, whose prediction is added to a carried one; it starts from the bias."""
    task = toy_task()

    def empty(batch):
        return jnp.zeros_like(batch["y"])

    def loss(params, batch, key, carry, first):
        state = jnp.where(first, params["a.bias"], carry)
        prediction = 0.5 * state + task.predict(params, batch, key)
        return Losses(task.metrics["error"](prediction, batch), carry=jax.lax.stop_gradient(prediction))

    return replace(task, loss=Loss(loss, empty=empty, repeats=repeats))


def test_steps_on_a_batch_are_those_of_a_plain_loop():
    task = recurrent_task()
    packing, optimizer = build_packing("adamw", toy_params()), optax.sgd(0.1)
    step = make_step(task, optimizer, packing, ema_decay=0.9)
    batches = {name: jnp.asarray(value[None, :4]) for name, value in task.train.items()}
    state, metrics = step(create_state(toy_params(), packing, optimizer, 0, ema=True), batches)
    params, batch = toy_params(), {name: value[0] for name, value in batches.items()}
    carry, losses = task.loss.empty(batch), []

    def mean(*arguments):
        found = task.loss.of(*arguments)
        return jnp.mean(found.values), found.carry

    for index in range(3):
        (value, carry), grads = jax.value_and_grad(mean, has_aux=True)(params, batch, None, carry, index == 0)
        params = {name: params[name] - 0.1 * grads[name] for name in params}
        losses.append(value)
    np.testing.assert_allclose(metrics["loss"], losses, rtol=1e-5)
    for name, value in packing.unpack(state.params).items():
        np.testing.assert_allclose(value, params[name], rtol=1e-5)
    assert int(state.step) == 3


def test_no_stop_separates_the_presentations():
    for changes in ({"epochs": 4}, {"epochs": 0, "steps": 13}):
        plan = make_plan(toy_config(**changes), 24, repeats=3)
        stops = [0]
        while stops[-1] < plan.steps:
            stops.append(plan.next_stop(stops[-1]))
        assert all(stop % 3 == 0 for stop in stops)
    assert plan.steps == 39


def test_resumed_run_is_bit_exact(tmp_path):
    runs = Runs(toy_config(epochs=4), recurrent_task(), lambda seed: toy_params())
    setup, straight = runs.setup, runs.train(tmp_path / "straight")
    kept = saved_checkpoints(setup, tmp_path / "straight").steps()
    assert kept[-1] == setup.plan.steps == 4 * 6 * 3
    runs.train(tmp_path / "parts")
    for folder in (tmp_path / "parts" / "checkpoints").iterdir():
        if folder.name == str(kept[-1]):
            for file in folder.rglob("*"):
                if file.is_file():
                    file.write_bytes(b"")
    resumed = runs.train(tmp_path / "parts")
    for a, b in zip(jax.tree.leaves(straight.params), jax.tree.leaves(resumed.params), strict=True):
        np.testing.assert_array_equal(a, b)
    losses = [line["loss"] for line in read_log(tmp_path / "parts" / "metrics.jsonl") if line["event"] == "train"]
    assert losses[-1] < losses[0]


def test_accumulation_is_refused():
    with pytest.raises(UserError, match=r"train.accumulation=2 does not go with a task that makes 3"):
        build_setup(recurrent_task(), toy_params(), toy_config(accumulation=2), 0, make_mesh(1, 1))


def test_refreshed_parameters_are_kept_with_their_average():
    packing, still = build_packing("adamw", toy_params()), optax.sgd(0.0)

    def refresh(params, step, key):
        return params | {"a.bias": jnp.where(step % 2 == 1, jax.random.normal(key, (1,)), params["a.bias"])}

    step = make_step(replace(toy_task(), refresh=refresh), still, packing, ema_decay=0.9)
    batch = {name: jnp.asarray(value[None, :4]) for name, value in toy_task().train.items()}
    state, biases = create_state(toy_params(), packing, still, 0, ema=True), []
    for _ in range(4):
        state, _ = step(state, batch)
        biases.append(float(packing.unpack(state.params)["a.bias"][0]))
        np.testing.assert_allclose(packing.unpack(state.ema)["a.bias"], biases[-1], rtol=1e-6)
    assert biases[0] == 0.0
    assert biases[1] == biases[2] != biases[3]


def test_best_checkpoint_has_the_highest_accuracy(tmp_path):
    config = toy_config(epochs=10)
    config.checkpoint.keep_last, config.checkpoint.keep_best = 1, 1
    kept = {}
    for higher in (False, True):
        folder = tmp_path / str(higher)
        folder.mkdir()
        task = toy_task()
        task = replace(task, higher_is_better=higher, tests={"val": task.tests["test"]}, selection="val")
        setup = build_setup(task, toy_params(), config, 0, make_mesh(1, 1))
        train(setup, config, folder, quiet=True)
        kept[higher] = saved_checkpoints(setup, folder).steps()
        log = read_log(folder / "metrics.jsonl")
        errors = {line["step"]: line["val/error_ema"] for line in log if line["event"] == "eval" and line["step"]}
        best = (max if higher else min)(errors, key=errors.get)
        assert best in kept[higher]
    assert kept[True] != kept[False]


def test_random_features_are_not_decayed():
    assert parameter_group("blocks.0.att.proj_matrix") == "no_decay"
    assert parameter_group("positions.pos_scale") == "decay"
    assert parameter_group("token_embedding.embedding") == "no_decay"
    assert parameter_group("cls_token") == "no_decay"
    assert parameter_group("y_init") == "decay"
