from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline.dataset import PDEDataset, Source, Split
from data_pipeline.normalizer import Normalizer
from experiments.training.losses import (
    has_relative_error,
    mean_squared_error,
    or_zero,
    original_relative_l2,
    r_squared,
    relative_gradient_l2,
    relative_l2,
)
from experiments.training.task import summarize_per_case
from experiments.training.tasks.baselines import baseline_error
from experiments.training.tasks.inputs import pad_points
from experiments.training.tasks.regression import regression_task
from tests.experiments.training.toy import losses_of


def test_relative_l2_by_hand():
    target = jnp.array([[[3.0], [4.0]], [[0.0], [2.0]]])
    prediction = jnp.array([[[3.0], [1.0]], [[0.0], [2.0]]])
    np.testing.assert_allclose(relative_l2(prediction, target), [3 / 5, 0.0])


@pytest.mark.parametrize("scale", [1e-37, 1e-20, 1e-18, 1e-17, 1e-3, 1.0, 1e3, 1e18, 1e19, 1e20, 1e37])
@pytest.mark.parametrize("masked", [False, True])
def test_metrics_are_the_same_in_all_units(scale, masked):
    rng = np.random.default_rng(0)
    target = np.asarray(rng.normal(size=(1, 60, 1)) * scale, np.float32)
    prediction = np.asarray(1.1 * target.astype(np.float64), np.float32)
    mask = jnp.asarray(rng.random((1, 60)) < 0.5) if masked else None
    np.testing.assert_allclose(relative_l2(prediction, target, mask), 0.1, rtol=2e-5)
    exact = 0.1 * target.astype(np.float64)[np.asarray(mask)] if masked else 0.1 * target.astype(np.float64)
    if 1e-17 <= scale < 1e20:  # the square of anything else is no float32 number
        np.testing.assert_allclose(mean_squared_error(prediction, target, mask), np.mean(exact**2), rtol=1e-4)
    spread = np.sum((exact - exact.mean()) ** 2)
    np.testing.assert_allclose(r_squared(prediction, target, mask), 1 - np.sum(exact**2) / (100 * spread), rtol=1e-4)


def test_plain_sums_have_the_same_bits_in_ordinary_units():
    def plain(prediction, target):
        return jnp.sqrt(jnp.sum((prediction - target) ** 2, (1, 2)) / jnp.sum(target**2, (1, 2)))

    a, b = 7.3 * jax.random.normal(jax.random.key(0), (2, 3, 500, 2))
    for function in (lambda f: f(a, b), lambda f: jax.grad(lambda p: jnp.sum(f(p, b)))(a)):
        np.testing.assert_array_equal(function(relative_l2), function(plain))


def test_an_exact_prediction_has_error_and_gradient_zero():
    target = jax.random.normal(jax.random.key(0), (2, 5, 1))
    value, gradient = jax.value_and_grad(lambda p: jnp.sum(relative_l2(p, target)))(target)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


def test_a_target_of_zeros_has_no_relative_error_and_a_diverged_prediction_an_infinite_one():
    target = jnp.ones((3, 5, 1)).at[0].set(0)
    prediction = jnp.full((3, 5, 1), 2.0).at[1, 0].set(jnp.nan)
    np.testing.assert_array_equal(relative_l2(prediction, target), [np.nan, np.inf, 1.0])
    np.testing.assert_array_equal(has_relative_error(target), [False, True, True])
    gradient = jax.grad(lambda p: jnp.sum(or_zero(relative_l2(p, target))[::2]))(prediction)
    assert np.isfinite(gradient[::2]).all()
    assert not np.asarray(gradient[0]).any()
    values = {"rel_l2": np.array([np.nan, 0.25, 0.75])}
    assert summarize_per_case(values, {}) == {"rel_l2": 0.5}
    assert summarize_per_case({"rel_l2": np.array([np.nan, np.inf])}, {}) == {"rel_l2": np.inf}


def test_a_constant_target_has_no_spread_whatever_the_rounding_of_its_mean():
    target = jnp.full((1, 1000, 1), 0.1)
    np.testing.assert_array_equal(r_squared(target + 1, target), 0)


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_baselines_are_the_same_in_all_units(scale):
    dataset = _dataset()
    want = baseline_error(dataset, dataset.train)
    y = dataset.train.y * np.float32(scale)
    scaled = replace(dataset, train=replace(dataset.train, y=y))
    np.testing.assert_allclose(baseline_error(scaled, scaled.train), want, rtol=1e-5)
    y[0] = 0
    assert np.isfinite(baseline_error(scaled, scaled.train))


def test_masked_points_count_in_neither_norm_nor_gradient():
    a, b = jax.random.normal(jax.random.key(0), (2, 3, 5, 1))
    mask = jnp.arange(5)[None] < jnp.array([[5], [3], [1]])
    padded = jnp.where(mask[..., None], a, jnp.nan)
    want = [relative_l2(a[i : i + 1, :n], b[i : i + 1, :n])[0] for i, n in enumerate((5, 3, 1))]
    np.testing.assert_allclose(relative_l2(padded, b, mask), want, rtol=1e-6)
    gradient = jax.grad(lambda p: relative_l2(p, b, mask).sum())(padded)
    assert np.isfinite(gradient).all()
    assert not np.asarray(gradient)[~np.asarray(mask)].any()


def _dataset():
    rng = np.random.default_rng(0)
    x, y = rng.random((4, 6, 2)).astype(np.float32), rng.random((4, 6, 1)).astype(np.float32) + 1
    split = Split(x, y)
    return PDEDataset(
        "d", split, {"test": split}, Normalizer.identity(2), Normalizer.fit(y), Source("generated", ""), "f"
    )


def test_prediction_is_compared_in_data_units():
    dataset = _dataset()
    task = regression_task(dataset, lambda params, x, mask: dataset.y_normalizer.encode(jnp.asarray(dataset.train.y)))
    np.testing.assert_allclose(losses_of(task, {}, task.train), 0.0, atol=1e-6)


def test_points_padded_for_a_mesh_are_masked():
    padded = pad_points({"x": np.ones((2, 6, 3), np.float32), "y": np.ones((2, 6, 1), np.float32)}, 4)
    assert padded["x"].shape == (2, 8, 3)
    np.testing.assert_array_equal(padded["mask"].sum(1), [6, 6])
    same = pad_points({"x": np.ones((2, 8, 3), np.float32)}, 4)
    assert set(same) == {"x"}


def test_mean_predictor_by_hand():
    dataset = _dataset()
    y = dataset.train.y
    want = np.mean([np.linalg.norm(y[i] - y.mean()) / np.linalg.norm(y[i]) for i in range(4)])
    np.testing.assert_allclose(baseline_error(dataset, dataset.train), want, rtol=1e-5)


def test_frames_are_compared_together_or_one_by_one():
    a, b = np.asarray(jax.random.normal(jax.random.key(0), (2, 3, 5, 4, 2)))
    mask = np.arange(5)[None] < np.array([[5], [3], [1]])
    together = [np.linalg.norm((a - b)[i, :n]) / np.linalg.norm(b[i, :n]) for i, n in enumerate((5, 3, 1))]
    np.testing.assert_allclose(relative_l2(a, b, mask), together, rtol=1e-5)
    single = relative_l2(a, b, mask, per_frame=True)
    assert single.shape == (3, 4)
    np.testing.assert_allclose(single[1, 2], relative_l2(a[1:2, :3, 2], b[1:2, :3, 2])[0], rtol=1e-5)
    for metric in (mean_squared_error, r_squared):
        np.testing.assert_allclose(
            metric(a, b, mask, per_frame=True)[1, 2], metric(a[1:2, :3, 2], b[1:2, :3, 2])[0], rtol=1e-4
        )


def test_squared_error_and_r_squared_by_hand():
    a, b = np.asarray(jax.random.normal(jax.random.key(1), (2, 2, 6, 1)))
    mask = np.arange(6)[None] < np.array([[6], [4]])
    for i, n in enumerate((6, 4)):
        error, spread = a[i, :n] - b[i, :n], b[i, :n] - b[i, :n].mean()
        np.testing.assert_allclose(mean_squared_error(a, b, mask)[i], np.mean(error**2), rtol=1e-5)
        np.testing.assert_allclose(r_squared(a, b, mask)[i], 1 - np.sum(error**2) / np.sum(spread**2), rtol=1e-4)
    assert r_squared(b, b).min() == 1
    np.testing.assert_array_equal(r_squared(a, np.ones_like(b)), 0)


def _darcy_terms(p, t):
    """The gradient term written out with loops, for one field [H, W] and grid spacing h."""
    height, width = t.shape
    inside = np.zeros_like(p)
    inside[1:-1, 1:-1] = p[1:-1, 1:-1]
    total = 0.0
    for di, dj in ((0, 1), (1, 0)):
        slopes = []
        for f in (inside, t):
            slope = np.zeros_like(f)
            for i in range(height):
                for j in range(width):
                    ahead = f[i + di, j + dj] if i + di < height and j + dj < width else 0.0
                    behind = f[i - di, j - dj] if i >= di and j >= dj else 0.0
                    slope[i, j] = (ahead - behind) / (2 * 0.37)
            slopes.append(slope)
        total += np.linalg.norm(slopes[0] - slopes[1]) / np.linalg.norm(slopes[1])
    return total


def test_gradient_term_against_loops():
    rng = np.random.default_rng(0)
    p, t = rng.normal(size=(2, 2, 5, 4))
    found = relative_gradient_l2(*(jnp.asarray(f.reshape(2, 20, 1), jnp.float32) for f in (p, t)), (5, 4))
    np.testing.assert_allclose(found, [_darcy_terms(p[i], t[i]) for i in range(2)], rtol=1e-5)
    # Neither the border of the prediction nor padding behind the grid counts.
    changed = p.copy()
    changed[:, 0] += 3
    changed[:, :, -1] -= 2
    padded = np.pad(changed.reshape(2, 20, 1), [(0, 0), (0, 3), (0, 0)], constant_values=9.0)
    again = relative_gradient_l2(jnp.asarray(padded), jnp.pad(t.reshape(2, 20, 1), [(0, 0), (0, 3), (0, 0)]), (5, 4))
    np.testing.assert_allclose(again, found, rtol=1e-5)


def test_darcy_loss_vanishes_for_a_field_with_zero_border():
    t = np.zeros((1, 6, 6), np.float32)
    t[:, 1:-1, 1:-1] = np.random.default_rng(0).random((1, 4, 4)) + 1
    split = Split(np.zeros((1, 36, 3), np.float32), t.reshape(1, 36, 1))
    dataset = PDEDataset(
        "darcy", split, {"test": split}, Normalizer.identity(3), Normalizer.identity(1), Source("", ""), "p", (6, 6)
    )
    task = regression_task(dataset, lambda params, x, mask: params * jnp.asarray(split.y), gradient_weight=0.1)
    batch = {name: jnp.asarray(value) for name, value in task.train.items()}
    np.testing.assert_allclose(losses_of(task, 1.0, batch), 0, atol=1e-6)
    prediction = task.predict(1.5, batch, None)
    np.testing.assert_allclose(losses_of(task, 1.5, batch), 0.5 + 0.1 * (0.5 + 0.5), rtol=1e-5)
    np.testing.assert_allclose(task.metrics["rel_l2"](prediction, batch), 0.5, rtol=1e-5)
    np.testing.assert_allclose(task.metrics["loss"](prediction, batch), 0.6, rtol=1e-5)


def test_the_originals_expression_on_lpbf():
    rng = np.random.default_rng(0)
    p, t = rng.normal(0, 0.01, (2, 1, 50, 1)).astype(np.float32)
    found = original_relative_l2(p, t, None, 0.45, 0.34)
    want = np.linalg.norm(0.34 * (p - t)) / np.linalg.norm(0.34 * t + 0.45)
    np.testing.assert_allclose(found, [want], rtol=1e-4)
    assert found[0] < 0.05 * relative_l2(p, t)[0]  # the offset makes it look far better
