"""Seeds as one predictor: averages, and a spread whose factor makes intervals hold what they ought to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.training import losses
from experiments.training.ensemble import (
    HALF_WIDTH,
    calibrate,
    evaluate_average,
    evaluate_spread,
    stacked,
    with_spread,
)
from experiments.training.mesh import make_mesh
from experiments.training.setup import build_setup
from experiments.training.task import Loss, Task
from tests.experiments.training.toy import toy_config, toy_params

MEMBERS = 6


def noisy_task(factor, masked=False, frames=0):
    """A problem whose truth lies around the mean of the members, `factor` times as far as these spread."""
    rng = np.random.default_rng(0)
    shape = (40, 50, frames, 2) if frames else (40, 50, 2)
    offsets = rng.normal(size=(MEMBERS, *shape)).astype(np.float32)
    spread = offsets.std(axis=0, ddof=1)
    truth = (offsets.mean(axis=0) + factor * spread * rng.normal(size=shape)).astype(np.float32)
    mask = rng.random(shape[:2]) < 0.7
    if masked:
        truth[~mask] = 1e6

    def predict(params, batch, key):
        return batch["offsets"].swapaxes(0, 1)[params["member"]]

    def rel_l2(prediction, batch):
        return losses.relative_l2(prediction, batch["y"], batch.get("mask"))

    arrays = {"x": truth, "y": truth, "offsets": offsets.swapaxes(0, 1)} | ({"mask": mask} if masked else {})
    tests = {name: {key: value[part] for key, value in arrays.items()} for name, part in PARTS.items()}
    task = Task(arrays, tests, predict, Loss.of_prediction(predict, rel_l2), {"rel_l2": rel_l2}, "rel_l2", 50)
    return task, offsets.mean(axis=0), truth, mask


PARTS = {"validation": slice(0, 20), "test": slice(20, 40)}


def evaluated(task, validation):
    config = toy_config()
    config.eval.batch_size = 7
    setup = build_setup(task, toy_params(), config, 0, make_mesh(1, 1))
    members = [{"member": jnp.int32(number)} for number in range(MEMBERS)]
    return setup, members, evaluate_spread(setup, members, validation)


@pytest.mark.parametrize(("factor", "masked", "frames"), [(1.0, False, 0), (3.0, True, 0), (0.2, False, 3)])
def test_the_factor_is_found_and_the_intervals_hold_what_they_ought_to(factor, masked, frames):
    task, mean, truth, mask = noisy_task(factor, masked, frames)
    _, _, (results, spread) = evaluated(task, "validation")
    np.testing.assert_allclose(spread.factor, factor, rtol=0.04)
    assert spread.calibrated_on == "validation"
    assert list(spread.coverage) == ["test"]
    np.testing.assert_allclose(spread.coverage["test"], 0.9, atol=0.02)
    if factor == 1.0:
        np.testing.assert_allclose(spread.uncalibrated["test"], 0.9, atol=0.02)
    else:
        assert (spread.uncalibrated["test"] > 0.99) == (factor < 1)
    want = losses.relative_l2(mean[20:], truth[20:], mask[20:] if masked else None)
    np.testing.assert_allclose(results["test"]["rel_l2"], want, rtol=1e-5)
    assert "calibrated on validation, hold the truth: test" in spread.describe()


def test_without_a_validation_part_half_of_the_test_calibrates_and_is_named():
    _, _, (_, spread) = evaluated(noisy_task(2.0)[0], None)
    assert spread.calibrated_on == "the first half of validation"
    assert list(spread.coverage) == ["the second half of validation", "test"]
    np.testing.assert_allclose(list(spread.coverage.values()), 0.9, atol=0.03)
    assert spread.to_json()["level"] == 0.9


def test_ratios_are_those_of_errors_to_deviations():
    task = noisy_task(1.0)[0]
    batch = {name: jnp.asarray(value) for name, value in task.tests["test"].items()}
    spread = with_spread(task)
    params = stacked([{"member": jnp.int32(number)} for number in range(MEMBERS)])
    mean, deviation = spread.predict(params, batch, None)
    counts = np.asarray(spread.metrics["spread_ratios"]((mean, deviation), batch))
    within = np.abs(mean - batch["y"]) <= HALF_WIDTH * deviation
    assert counts.sum(axis=1).tolist() == [100] * 20
    plain = calibrate({"a": counts, "b": counts}, "a").uncalibrated["b"]
    np.testing.assert_allclose(plain, within.mean(), atol=3e-3)


def test_seeds_that_agree_everywhere_have_no_spread():
    counts = np.zeros((3, 5000), int)[:, : calibrate.__globals__["_EDGES"].size + 1]
    counts[:, -1] = 10  # an error, and no deviation
    assert calibrate({"a": counts, "b": counts}, "a") is None


def test_other_averages():
    task = noisy_task(1.0)[0]
    setup, members, _ = evaluated(task, "validation")
    largest = evaluate_average(setup, members, lambda predictions: jnp.max(predictions, axis=0))
    want = losses.relative_l2(task.tests["test"]["offsets"].max(axis=1), task.tests["test"]["y"])
    np.testing.assert_allclose(largest["test"]["rel_l2"], want, rtol=1e-5)
    assert jax.tree.structure(stacked(members)) == jax.tree.structure(members[0])
