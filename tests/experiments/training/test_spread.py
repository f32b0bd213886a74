"""Fields on an offset: what is compared is their spread, and what is reported beside it is relative to the whole."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline.dataset import PDEDataset, Source, Split
from data_pipeline.normalizer import Normalizer
from experiments.training import losses
from experiments.training.tasks import build_task
from experiments.training.tasks.baselines import baseline_error
from experiments.training.tasks.errors import field_errors, headline_of
from tests.data_pipeline.custom.test_loader import load as load_own
from tests.experiments.training.toy import losses_of

RNG = np.random.default_rng(0)
CP = RNG.normal(size=(4, 60, 1))


def dataset(y, kind="steady", **extra):
    points = np.zeros((*y.shape[:2], 2), np.float32)
    normalizer = Normalizer.fit(y.reshape(len(y), -1, y.shape[-1]))
    split = Split(points, y, **extra)
    source = Source("own files", "")
    return PDEDataset("toy", split, {"test": split}, Normalizer.identity(2), normalizer, source, "p", kind=kind)


def relative(p, y):
    return np.sqrt(np.sum((p - y) ** 2, axis=tuple(range(1, y.ndim))) / np.sum(y**2, axis=tuple(range(1, y.ndim))))


def test_targets_keep_the_digits_of_their_spread():
    """In float32 the field itself has steps of 2⁻⁷, of which 50 cp would keep errors of 1e-4."""
    pressure = 101325 + 50 * CP
    made = dataset(pressure)
    assert made.train.y.dtype == np.float32
    np.testing.assert_allclose(made.offset, [pressure.mean()], rtol=1e-12)
    np.testing.assert_allclose(made.train.y, pressure - pressure.mean(), rtol=0, atol=2e-5)
    np.testing.assert_allclose(made.in_units(made.train.y), pressure, rtol=1e-10)
    assert np.abs(pressure.astype(np.float32) - pressure).max() > 3e-3
    np.testing.assert_allclose(made.y_decoder.decode(np.zeros(1)), [pressure.mean()], rtol=1e-12)


def test_no_offset_of_ordinary_fields():
    field = 3 + CP
    made = dataset(field)
    assert made.offset.tolist() == [0.0]
    assert made.metric_offset is None
    np.testing.assert_array_equal(made.train.y, field.astype(np.float32))
    again = dataclasses.replace(dataset(101325 + 50 * CP), name="other")
    np.testing.assert_allclose(again.in_units(again.train.y), 101325 + 50 * CP, rtol=1e-10)


def test_the_relative_error_is_that_of_the_whole_field():
    pressure = 101325 + 50 * CP
    made = dataset(pressure)
    task = build_task(made, lambda params, x, mask: jnp.zeros((*x.shape[:2], 1)), 1, (), {})
    batch = {name: jnp.asarray(value) for name, value in task.train.items()}
    prediction = task.predict({}, batch, None)
    expected = relative(np.full_like(pressure, pressure.mean()), pressure)
    np.testing.assert_allclose(task.metrics["rel_l2"](prediction, batch), expected, rtol=1e-5)
    np.testing.assert_allclose(losses_of(task, {}, batch), expected, rtol=1e-5)
    np.testing.assert_allclose(baseline_error(made, made.train), expected.mean(), rtol=1e-5)
    options = {"gradient_weight": 0.5}
    on_grid = dataclasses.replace(made, grid_shape=(6, 10))
    slopes = build_task(on_grid, lambda params, x, mask: jnp.zeros((*x.shape[:2], 1)), 1, (), options)
    whole = [jnp.asarray(np.float32(field)) for field in (np.full_like(pressure, pressure.mean()), pressure)]
    expected = expected + 0.5 * losses.relative_gradient_l2(*whole, (6, 10))
    np.testing.assert_allclose(losses_of(slopes, {}, batch), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["autoregressive", "time_conditioned", "mesh_series"])
def test_series_on_an_offset(kind):
    """The same frames with and without an offset give the same steps; relative errors are those of the whole."""
    frames = RNG.normal(size=(3, 8, 5, 1)).cumsum(axis=2)

    def task_of(shift):
        given = {"fx": frames[:, :, :2, 0] + shift} if kind == "autoregressive" else {}
        free = {"free": np.ones((3, 8), bool)} if kind == "mesh_series" else {}
        series = dataset((frames if kind != "autoregressive" else frames[:, :, 2:]) + shift, kind, **given, **free)
        steps = series.train.y.shape[2]
        series = dataclasses.replace(
            series, times=np.arange(steps, dtype=np.float32), increment_normalizer=Normalizer.identity(1)
        )

        def apply(params, x, mask, fx=None, time=None, key=None):
            seen = jnp.zeros((*x.shape[:2], 1)) if fx is None else fx[..., -1:]
            return 0.9 * seen + (0 if time is None else 0.1 * time[:, None, None])

        return series, build_task(series, apply, 1, ("fx", "time", "key"), {})

    plain, shifted = task_of(0.0), task_of(1e6)
    assert shifted[0].offset.any()
    assert shifted[0].train.y.dtype == np.float32
    predictions, whole = [], []
    for made, task in (plain, shifted):
        batch = {name: jnp.asarray(value) for name, value in task.train.items()}
        prediction = task.predict({}, batch, None)
        first = made.train.y.shape[2] - prediction.shape[2]
        predictions.append(made.in_units(np.asarray(prediction)))
        whole.append(made.in_units(made.train.y)[:, :, first:])
        errors = task.metrics["rel_l2"](prediction, batch)
        np.testing.assert_allclose(errors, relative(predictions[-1], whole[-1]), rtol=2e-5)
    np.testing.assert_allclose(whole[1] - 1e6, whole[0], rtol=0, atol=1e-5)


def write_flows(folder, offset=101325.0):
    """Write samples with a pressure on an offset, a velocity, and a field that is the same everywhere."""
    for number in range(4):
        rng = np.random.default_rng(number)
        split = "test" if number == 3 else "train"
        (folder / split).mkdir(parents=True, exist_ok=True)
        arrays = {
            "points": rng.random((60, 2)),
            "pressure": offset + 50 * rng.normal(size=60),
            "velocity": rng.normal(size=(60, 2)) * [3.0, 1.0],
            "level": np.full(60, 7.0),
            "speed": np.float64(number),
        }
        np.savez(folder / split / f"{number}.npz", **arrays)


def raw(folder, name):
    return np.concatenate([np.load(folder / "train" / f"{number}.npz")[name].reshape(60, -1) for number in range(3)])


@pytest.mark.parametrize("stream", ["never", "always"])
def test_own_fields_are_in_units_of_their_spread(tmp_path, stream):
    write_flows(tmp_path)
    made = load_own(tmp_path, tmp_path, targets="pressure,velocity,level", stream=stream)
    y = np.asarray(made.train.y[:], np.float64).reshape(-1, 4)
    pressure, velocity = raw(tmp_path, "pressure"), raw(tmp_path, "velocity")
    spread = np.sqrt(velocity.var(0, ddof=1).sum())
    np.testing.assert_allclose(y[:, :1], (pressure - pressure.mean()) / pressure.std(ddof=1), rtol=0, atol=3e-7)
    np.testing.assert_allclose(y[:, 1:3], (velocity - velocity.mean(0)) / spread, rtol=0, atol=3e-7)
    assert not y[:, 3].any()
    assert made.spread_fields == {"pressure": 1, "velocity": 2, "level": 1}
    np.testing.assert_allclose(made.in_units(y)[:, :1], pressure, rtol=1e-9)
    np.testing.assert_allclose(made.source.detail["target_scales"][3], 7.0)
    assert headline_of(made) == "rel_spread"


def test_errors_by_field(tmp_path):
    """An error of the pressure of half its fluctuation is 2.4e-4 of the pressure: both are reported."""
    write_flows(tmp_path)
    made = load_own(tmp_path, tmp_path, targets="pressure,velocity")
    target = jnp.asarray(made.train.y)
    prediction = target.at[..., 0].add(0.49)
    errors = {name: np.asarray(error(prediction, target, None)) for name, error in field_errors(made).items()}
    np.testing.assert_allclose(errors["rel_spread/pressure"], 0.49, rtol=1e-5)
    np.testing.assert_allclose(errors["rel_spread/velocity"], 0, atol=1e-7)
    np.testing.assert_allclose(errors["rel_spread"], 0.49 / np.sqrt(2), rtol=1e-5)
    pressure = raw(tmp_path, "pressure").reshape(3, 60)
    absolute = 0.49 * pressure.std(ddof=1) / np.sqrt(np.mean(pressure**2, axis=1))
    np.testing.assert_allclose(errors["rel_l2/pressure"], absolute, rtol=1e-5)
    assert (errors["rel_l2/pressure"] < 3e-4).all()
    np.testing.assert_allclose(errors["rel_l2/velocity"], 0, atol=1e-7)
    # Over all fields each is divided by its root mean square, as the data sets of several fields were before.
    sizes = [np.sqrt((raw(tmp_path, name) ** 2).sum(1).mean()) for name in ("pressure", "velocity")]
    velocity = raw(tmp_path, "velocity").reshape(3, 60, 2)
    norm = np.sqrt((pressure**2).sum(1) / sizes[0] ** 2 + (velocity**2).sum((1, 2)) / sizes[1] ** 2)
    wrong = np.sqrt(60) * 0.49 * pressure.std(ddof=1) / sizes[0]
    np.testing.assert_allclose(errors["rel_l2"], wrong / norm, rtol=1e-2)


@pytest.mark.parametrize("targets", ["pressure", "pressure,velocity"])
def test_predicting_the_mean_is_an_error_of_one(tmp_path, targets):
    write_flows(tmp_path)
    made = load_own(tmp_path, tmp_path, targets=targets)
    task = build_task(made, lambda params, x, mask: jnp.zeros((*x.shape[:2], made.c_out)), 1, (), {})
    batch = {name: jnp.asarray(value) for name, value in task.train.items()}
    errors = np.asarray(losses_of(task, {}, batch))
    np.testing.assert_allclose(np.sqrt(np.mean(errors**2)), 1, rtol=5e-3)
    np.testing.assert_allclose(baseline_error(made, made.train), errors.mean(), rtol=1e-4)
    assert task.loss.counts is None


def test_offsets_change_nothing_in_training(tmp_path):
    for name, offset in (("near", 0.0), ("far", 101325.0)):
        write_flows(tmp_path / name, offset)
    near, far = (load_own(tmp_path, tmp_path / name, targets="pressure,velocity") for name in ("near", "far"))
    np.testing.assert_allclose(far.train.y, near.train.y, rtol=0, atol=3e-7)
    np.testing.assert_allclose(far.y_normalizer.std, near.y_normalizer.std, rtol=1e-9)


def test_masked_points_and_equal_fields():
    """The mean over real points alone; a prediction that is the target has error 0 with gradient 0."""
    target = jnp.asarray(RNG.normal(size=(2, 5, 3)), jnp.float32)
    mask = jnp.arange(5) < jnp.array([[5], [2]])
    wrong = jnp.where(mask[..., None], target + 0.5, jnp.nan)
    errors = losses.relative_to_spread(wrong, target, mask, fields=3)
    np.testing.assert_allclose(errors, 0.5, rtol=1e-6)
    np.testing.assert_allclose(losses.relative_to_spread(target + 0.5, target, fields=1), 0.5 * np.sqrt(3), rtol=1e-6)

    def loss(prediction):
        return losses.relative_to_spread(prediction, target, mask, fields=3).sum()

    assert not np.asarray(jax.grad(loss)(target)).any()
    zero = jnp.zeros((1, 5, 1))
    np.testing.assert_allclose(losses.relative_to_spread(zero + 2, zero, fields=1), 2)
