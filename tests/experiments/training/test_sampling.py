"""Epochs over buckets and windows: every sample once, batches of one bucket, training that does not see padding."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.errors import UserError
from experiments.training.loop import train
from experiments.training.mesh import make_mesh
from experiments.training.plan import make_plan
from experiments.training.sampling import Epochs, bucket_lengths, buckets_of
from experiments.training.setup import build_setup
from experiments.training.step import make_chunk
from experiments.training.task import Loss, Losses
from experiments.training.tasks import build_task
from tests.experiments.training import fields
from tests.experiments.training.runs import Runs
from tests.experiments.training.toy import losses_of, toy_config, toy_params, toy_task


def apply(params, x, mask):
    return x[..., :2] @ params["a.kernel"] + params["a.bias"]


def cloud_task(**changes):
    return build_task(fields.clouds(**changes), apply, 1, (), {})


def test_an_epoch_visits_every_sample_of_every_bucket_once():
    epochs = Epochs((6, 9), batch_size=2, accumulation=1)
    order, buckets = epochs.order(jax.random.key(0), 0)
    assert order.shape == (3 + 4, 1, 2)
    np.testing.assert_array_equal(np.sort(order[buckets == 0].ravel()), np.arange(6))
    assert len(set(np.ravel(order[buckets == 1]).tolist())) == 8  # one of nine is left out
    assert list(buckets) != sorted(buckets)
    other, _ = epochs.order(jax.random.key(0), 1)
    assert not np.array_equal(order, other)


def test_rows_go_to_the_smallest_bucket_that_holds_them():
    task = cloud_task()
    small, large = buckets_of(task)
    np.testing.assert_array_equal(small.members, [0, 2, 4])
    assert bucket_lengths(task) == (3, 3)
    rows = small.cut(task.train)
    assert rows["x"].shape == (3, 4, 2)
    np.testing.assert_array_equal(rows["mask"].sum(1), [3, 4, 2])
    assert large.cut(task.train)["x"].shape == (3, 10, 2)
    (whole,) = buckets_of(cloud_task(bucket_sizes=()))
    assert whole.cut(task.train)["x"].shape == (6, 10, 2)
    # Sizes that no row needs take no part.
    assert len(buckets_of(cloud_task(bucket_sizes=(1, 4, 10)))) == 2


@pytest.mark.parametrize(
    ("least", "sizes", "members"),
    [
        (1, [3, 6, 10], [[0, 4], [2], [1, 3, 5]]),
        (2, [3, 10], [[0, 4], [1, 2, 3, 5]]),  # the middle one goes up
        (3, [6, 10], [[0, 2, 4], [1, 3, 5]]),  # the smallest goes up
        (4, [10], [[0, 1, 2, 3, 4, 5]]),  # two together are not enough
        (9, [10], [[0, 1, 2, 3, 4, 5]]),
    ],
)
def test_buckets_smaller_than_a_batch_are_merged(least, sizes, members):
    task = cloud_task(bucket_sizes=(3, 6, 10))
    buckets = buckets_of(task, least)
    assert [bucket.size for bucket in buckets] == sizes
    assert [bucket.members.tolist() for bucket in buckets] == members
    assert bucket_lengths(task, least) == tuple(map(len, members))


def test_a_largest_bucket_smaller_than_a_batch_takes_the_one_before():
    task = cloud_task(counts=(3, 9, 3, 3, 5, 5), bucket_sizes=(3, 6, 10))
    small, large = buckets_of(task, 2)
    assert (small.size, small.members.tolist()) == (3, [0, 2, 3])
    assert (large.size, large.members.tolist()) == (10, [1, 4, 5])
    # Every window of a row is a sample.
    assert bucket_lengths(dataclasses.replace(task, windows=3), 2) == (9, 6, 3)
    setup = build_setup(task, toy_params(), toy_config(batch_size=2), 0, make_mesh(1, 1))
    assert setup.plan.steps_per_epoch == 2


def test_buckets_are_padded_for_a_mesh_of_devices():
    task = build_task(fields.clouds(), apply, 8, (), {})
    assert task.bucket_sizes == (8, 16)
    assert task.train["x"].shape == (6, 16, 2)


def test_a_plan_counts_the_batches_of_every_bucket():
    config = toy_config(epochs=2, batch_size=4)
    assert make_plan(config, (6, 9)).steps_per_epoch == 3
    assert make_plan(config, (3, 9)).steps_per_epoch == 2
    with pytest.raises(UserError, match="there are groups of 3, 2; lower them"):
        make_plan(config, (3, 2))


def _losses(task, epochs, steps):
    """The losses of the first steps with a step that changes nothing."""

    def step(state, batches):
        batch = {name: value[0] for name, value in batches.items()}
        loss = jnp.mean(losses_of(task, state["params"], batch))
        return state, {"loss": loss}

    mesh = make_mesh(1, 1)
    data = tuple(mesh.place_dataset(bucket.cut(task.train)) for bucket in buckets_of(task))
    chunk = make_chunk(lambda state, batches: _with_key(step, state, batches), epochs=epochs, mesh=mesh)
    state = _State(toy_params(), jax.random.key(0))
    return chunk(state, data, jnp.int32(0), jnp.int32(0), length=steps)[1]["loss"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class _State:
    params: dict
    key: jax.Array


def _with_key(step, state, batches):
    _, metrics = step({"params": state.params}, batches)
    return state, metrics


def test_losses_in_buckets_are_those_of_padded_rows():
    bucketed, padded = cloud_task(), cloud_task(bucket_sizes=())
    found = _losses(bucketed, Epochs(bucket_lengths(bucketed), 1, 1), 6)
    want = _losses(padded, Epochs(bucket_lengths(padded), 1, 1), 6)
    np.testing.assert_allclose(np.sort(found), np.sort(want), rtol=1e-5)


def test_a_run_on_buckets_learns_and_resumes_bit_by_bit(tmp_path):
    config = toy_config(epochs=30, batch_size=2)
    config.train.ema_decay = 0.0
    config.eval.weights = "raw"
    config.eval.every = config.checkpoint.every = 15
    runs = Runs(config, cloud_task(), lambda seed: toy_params())
    setup, straight = runs.setup, runs.train(tmp_path / "straight")
    assert setup.plan.steps == 60
    params = setup.packing.unpack(straight.params)
    data = setup.mesh.place_dataset(setup.task.train)
    after, before = (setup.evaluate(weights, data)["rel_l2"].mean() for weights in (params, toy_params()))
    assert after < 0.1 < before
    runs.train(tmp_path / "parts")
    steps = sorted(int(path.name) for path in (tmp_path / "parts" / "checkpoints").iterdir())
    shutil.rmtree(tmp_path / "parts" / "checkpoints" / str(steps[-1]))
    resumed = runs.train(tmp_path / "parts")
    for group, value in straight.params.items():
        np.testing.assert_array_equal(value, resumed.params[group])


def test_windows_of_rows_are_samples():
    rows = {"x": jnp.arange(12.0).reshape(3, 4)}
    epochs = Epochs((6,), batch_size=2, accumulation=1, windows=2)
    batch = epochs.gather(rows, jnp.array([[5, 2]]), make_mesh(1, 1))
    np.testing.assert_array_equal(batch["window"], [[1, 0]])
    np.testing.assert_array_equal(batch["x"][0], rows["x"][jnp.array([2, 1])])
    assert "window" not in dataclasses.replace(epochs, windows=1).gather(rows, jnp.array([[1]]), make_mesh(1, 1))


@pytest.mark.parametrize("by_batch", [True, False])
def test_learning_rate_by_batch(by_batch):
    task = toy_task()

    def loss(params, batch, key, carry, first):
        return Losses(losses_of(task, params, batch, key), carry=carry)

    repeated = Loss(loss, empty=lambda batch: jnp.zeros(()), repeats=3, schedule_by_batch=by_batch)
    config = toy_config(epochs=4)
    setup = build_setup(dataclasses.replace(task, loss=repeated), toy_params(), config, 0, make_mesh(1, 1))
    plain = build_setup(task, toy_params(), config, 0, make_mesh(1, 1))
    assert setup.plan.steps == 3 * plain.plan.steps
    rates = [setup.scheduled(step)["learning_rate"] for step in range(setup.plan.steps)]
    if by_batch:
        expected = np.repeat([plain.scheduled(s)["learning_rate"] for s in range(24)], 3)
        # Programs of their own may round the last bit of a float32 rate differently.
        np.testing.assert_allclose(rates, expected, rtol=1e-6)
        np.testing.assert_allclose(setup.scheduled(7)["beta1"], plain.scheduled(2)["beta1"])
    else:
        assert len(set(rates)) > 40


@pytest.mark.parametrize("dataset", [fields.autoregressive(), fields.time_conditioned(), fields.mesh_series()])
def test_every_kind_trains(tmp_path, dataset):
    """A linear model of all channels lowers the loss, through the loop that the program uses."""
    channels = {"autoregressive": 5, "time_conditioned": 4, "mesh_series": 5}[dataset.kind]

    def linear(params, x, mask):
        return x @ params["a.kernel"] + params["a.bias"]

    task = build_task(dataset, linear, 1, (), {})
    config = toy_config(epochs=40, batch_size=2)
    config.eval.every = config.checkpoint.every = 40
    params = {"a.kernel": jnp.ones((channels, dataset.c_out)), "a.bias": jnp.ones(dataset.c_out)}
    folder = tmp_path / "run"
    folder.mkdir()
    setup = build_setup(task, params, config, 0, make_mesh(1, 1))
    before = setup.evaluate(params, setup.mesh.place_dataset(task.train))["rel_l2"].mean()
    state = train(setup, config, folder, quiet=True)
    after = setup.evaluate(setup.packing.unpack(state.params), setup.mesh.place_dataset(task.train))["rel_l2"].mean()
    assert after < before
