import jax
import jax.numpy as jnp
import numpy as np

from data_pipeline.dataset import PDEDataset, Source, Split
from data_pipeline.normalizer import Normalizer
from experiments.training.losses import relative_l2
from experiments.training.task import mean_predictor_error, pad_points, regression_task


def test_relative_l2_by_hand():
    target = jnp.array([[[3.0], [4.0]], [[0.0], [2.0]]])
    prediction = jnp.array([[[3.0], [1.0]], [[0.0], [2.0]]])
    np.testing.assert_allclose(relative_l2(prediction, target), [3 / 5, 0.0])


def test_relative_l2_is_scale_invariant():
    a, b = jax.random.normal(jax.random.key(0), (2, 3, 5, 2))
    np.testing.assert_allclose(relative_l2(1e3 * a, 1e3 * b), relative_l2(a, b), rtol=1e-5)


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
    prediction = task.predict({}, task.train, None)
    np.testing.assert_allclose(task.loss(prediction, task.train), 0.0, atol=1e-6)


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
    np.testing.assert_allclose(mean_predictor_error(dataset, dataset.train), want, rtol=1e-5)
