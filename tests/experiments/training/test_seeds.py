"""Several seeds in one program: each is what it is alone, whatever happens to the others."""

import signal
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.errors import NotFiniteError, UserError
from experiments.training.checkpoints import Checkpoints
from experiments.training.costs import measure
from experiments.training.device_source import DeviceSource
from experiments.training.loop import train_together
from experiments.training.mesh import make_mesh
from experiments.training.records import MetricsLog, read_log
from experiments.training.seed_run import SeedStates, grouped, saved_checkpoints
from experiments.training.setup import build_setup
from experiments.training.source import open_source
from experiments.training.task import Loss
from runtime import signals
from tests.experiments.training.runs import Runs
from tests.experiments.training.test_streaming import tasks as streamed_and_loaded
from tests.experiments.training.toy import toy_config, toy_params, toy_task
from tests.experiments.training.toy_runs import arrays_of

SEEDS = (0, 4, 7)


def params_of(seed):
    return {name: value + 0.01 * seed for name, value in toy_params().items()}


def setup_of(config, task=None, seed=SEEDS[0]):
    return build_setup(task or toy_task(), params_of(seed), config, seed, make_mesh(1, 1))


def setups_of(config, task=None, params=params_of):
    first = setup_of(config, task)
    return [first.for_seed(params(seed), seed) for seed in SEEDS]


def train_all(runs, folder, places=3, params=None, count=3):
    """Train the first `count` seeds in one program; return their outcomes."""
    return runs.train_together(
        SEEDS[:count], [folder / f"seed_{seed}" for seed in SEEDS[:count]], places=places, params=params
    )


def assert_same(one, other):
    for a, b in zip(arrays_of(one), arrays_of(other), strict=True):
        np.testing.assert_array_equal(a, b)


def events(folder):
    """Return the log without times."""
    lines = [line for line in read_log(folder / "metrics.jsonl") if line["event"] != "timing"]
    return [{name: value for name, value in line.items() if name != "step_ms"} for line in lines]


def dropout_task():
    """The toy problem with noise from the step's key, and parameters that are drawn anew every other step."""
    task = toy_task()

    def predict(params, batch, key):
        prediction = task.predict(params, batch, key)
        return prediction if key is None else prediction + 0.1 * jax.random.normal(key, prediction.shape)

    def refresh(params, step, key):
        drawn = lambda bias: bias + 0.01 * jax.random.normal(key, bias.shape)  # noqa: E731
        return {**params, "a.bias": jax.lax.cond(step % 2 == 0, drawn, lambda bias: bias, params["a.bias"])}

    return replace(task, predict=predict, refresh=refresh)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Every seed trained alone: what trains them, folder and states."""
    config, folder = toy_config(epochs=6, accumulation=2), tmp_path_factory.mktemp("alone")
    config.checkpoint.every = config.eval.every = 2
    runs = Runs(config, dropout_task(), params_of)
    states = [runs.train(folder / f"seed_{seed}", seed) for seed in SEEDS]
    return runs, folder, states


@pytest.mark.parametrize("places", [3, 4])
def test_each_seed_is_bit_for_bit_what_it_is_alone(alone, tmp_path, places):
    runs, folder, states = alone
    outcomes = train_all(runs, tmp_path, places)
    setup = runs.setup
    for seed, outcome, state in zip(SEEDS, outcomes, states, strict=True):
        assert_same(outcome, state)
        own, single = tmp_path / f"seed_{seed}", folder / f"seed_{seed}"
        assert events(own) == events(single)
        kept = [saved_checkpoints(setup, one) for one in (own, single)]
        assert kept[0].steps() == kept[1].steps()
        assert_same(*(one.restore(setup.template, one.steps()[0]) for one in kept))
    timing = read_log(own / "metrics.jsonl")[-1]
    assert (timing["event"], timing["parallel_seeds"]) == ("timing", 3)


def test_seeds_in_the_same_operations_agree_to_rounding(alone, tmp_path):
    """What an accelerator does; a branch on the step's number must stay one, not become a choice of two results."""
    runs, _, states = alone
    config, setups = runs.config, setups_of(runs.config, dropout_task())
    source = DeviceSource(setups[0], config, len(SEEDS), batched=True)
    joined = SeedStates([setup.template for setup in setups], len(SEEDS), setups[0].mesh)
    waiting = arrays_of(joined.of(1))
    steps = setups[0].plan.steps_per_epoch
    joined.joined, values, _ = source(joined.joined, 0, steps, [True, False, True])
    assert values["loss"].shape == (3, steps)
    for got, want in zip(arrays_of(joined.of(1)), waiting, strict=True):
        np.testing.assert_array_equal(got, want)
    joined.joined, _, _ = source(joined.joined, 0, steps, [False, True, False])
    for first in range(steps, setups[0].plan.steps, steps):
        joined.joined, _, _ = source(joined.joined, first, first + steps)
    for place, state in enumerate(states):
        for got, want in zip(arrays_of(joined.of(place)), arrays_of(state), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    program = str(source._chunk.trace(*source._arguments(joined.joined, 0, [True] * 3), length=steps).jaxpr)
    assert "cond[" in program


def test_a_program_is_compiled_once_for_seeds_that_are_trained_one_after_the_other(tmp_path):
    config, traced = toy_config(epochs=2), []
    task = toy_task()

    def compare(prediction, batch):
        traced.append(1)
        return task.metrics["error"](prediction, batch)

    setups = setups_of(config, replace(task, loss=Loss.of_prediction(task.predict, compare)))
    source = open_source(setups[0], config)
    counts = []
    for number, setup in enumerate(setups):
        folder = tmp_path / str(number)
        folder.mkdir()
        train_together([setup], config, [folder], source, quiet=True)
        counts.append(len(traced))
        assert read_log(folder / "metrics.jsonl")[-1]["event"] == "timing"
    assert counts[0] == counts[-1] > 0


def test_costs_are_those_of_the_seeds_that_are_trained_together():
    config = toy_config(epochs=2)
    config.train.seeds, config.train.parallel_seeds = (0, 1, 2), 2
    costs, _ = measure(setup_of(config), config)
    assert costs["parallel_seeds"] == 2
    points = costs["points_per_s"] * 1e-3 * costs["step_ms"]
    np.testing.assert_allclose(points, 2 * config.train.batch_size * setup_of(config).task.points_per_sample)


def test_a_seed_that_is_not_finite_ends_alone_and_is_named(alone, tmp_path, capsys):
    runs, folder, states = alone

    def params(seed):
        scale = 1e30 if seed == SEEDS[1] else 1.0
        return {name: scale * value for name, value in params_of(seed).items()}

    outcomes = train_all(runs, tmp_path, params=params)
    assert isinstance(outcomes[1], NotFiniteError)
    assert f"seed {SEEDS[1]}: the loss or its gradient became NaN or infinite at step 1;" in capsys.readouterr().out
    assert saved_checkpoints(runs.setup, tmp_path / f"seed_{SEEDS[1]}").steps() == [0]
    for number in (0, 2):
        assert_same(outcomes[number], states[number])
        assert events(tmp_path / f"seed_{SEEDS[number]}") == events(folder / f"seed_{SEEDS[number]}")


def test_a_state_that_is_not_finite_ends_its_seed_alone(tmp_path):
    config = toy_config(epochs=0, steps=2)
    config.optimizer.learning_rate, config.optimizer.weight_decay = 1.0, 1e38
    config.schedule.name, config.train.clip_norm, config.train.ema_decay = "constant", 0.0, 0.0
    config.eval.weights = "raw"
    # The decay overflows the second seed only.
    params = lambda seed: {name: value * (10.0 if seed == SEEDS[1] else 0.0) for name, value in toy_params().items()}  # noqa: E731
    outcomes = train_all(Runs(config, toy_task(), params), tmp_path)
    assert [isinstance(outcome, NotFiniteError) for outcome in outcomes] == [False, True, False]
    assert "the state after step" in str(outcomes[1])


def test_seeds_that_were_killed_at_different_steps_end_as_if_they_had_not_been(alone, tmp_path, monkeypatch):
    runs, folder, states = alone
    save = Checkpoints.save

    class Killed(Exception):
        pass

    def kill(self, state, step, metrics):
        if step >= 6 and "seed_4" in str(self.directory):
            raise Killed
        save(self, state, step, metrics)
        self.wait()

    monkeypatch.setattr(Checkpoints, "save", kill)
    with pytest.raises(Killed):
        train_all(runs, tmp_path)
    monkeypatch.undo()
    setup = runs.setup
    reached = [saved_checkpoints(setup, tmp_path / f"seed_{seed}").steps()[-1] for seed in SEEDS]
    assert len(set(reached)) > 1
    outcomes = train_all(runs, tmp_path)
    for seed, outcome, state in zip(SEEDS, outcomes, states, strict=True):
        assert_same(outcome, state)
        assert events(tmp_path / f"seed_{seed}") == events(folder / f"seed_{seed}")


def test_seeds_that_are_asked_to_end_are_saved_and_go_on(alone, tmp_path, monkeypatch):
    runs, _, states = alone
    write = MetricsLog.write

    def ask(self, event, step, values):
        write(self, event, step, values)
        if step >= 3:
            monkeypatch.setattr(signals._state, "requested", signal.SIGTERM)

    monkeypatch.setattr(signals._state, "requested", 0)
    monkeypatch.setattr(MetricsLog, "write", ask)
    with pytest.raises(signals.Interrupted):
        train_all(runs, tmp_path)
    monkeypatch.undo()
    setup = runs.setup
    reached = {saved_checkpoints(setup, tmp_path / f"seed_{seed}").steps()[-1] for seed in SEEDS}
    assert len(reached) == 1
    # Alone or together: the folder of a seed is that of a run of its own.
    assert_same(runs.train(tmp_path / "seed_7", 7), states[2])
    for outcome, state in zip(train_all(runs, tmp_path), states, strict=True):
        assert_same(outcome, state)


def test_seeds_with_batches_of_several_sizes(tmp_path):
    """Each seed takes the sizes in another order, and computes its own only."""
    _, loaded = streamed_and_loaded(tmp_path, True)
    runs = Runs(toy_config(epochs=2, batch_size=2), loaded, params_of)
    outcomes = train_all(runs, tmp_path / "together", count=2, places=2)
    assert_same(outcomes[1], runs.train(tmp_path / "alone", SEEDS[1]))


def test_streams_are_refused(tmp_path):
    streamed, _ = streamed_and_loaded(tmp_path, True)
    config = toy_config(epochs=2, batch_size=2)
    config.train.parallel_seeds = 2
    with pytest.raises(UserError, match=r"train.parallel_seeds=2 needs training data in memory.*parallel_seeds=1"):
        open_source(setup_of(config, streamed), config, 2)


@pytest.mark.parametrize(
    ("largest", "want"), [(1, [1] * 9), (2, [2, 2, 2, 2, 1]), (4, [3, 3, 3]), (8, [5, 4]), (20, [9])]
)
def test_groups_are_few_and_of_about_equal_sizes(largest, want):
    groups = grouped(tuple(range(9)), largest)
    assert [len(group) for group in groups] == want
    assert sum(groups, ()) == tuple(range(9))
