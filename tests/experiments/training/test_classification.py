import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.lra.task import classification_metrics
from experiments.training import classification as c
from experiments.training.task import summarize_per_case
from tests.golden_checks.loss_and_collate import classification_loss

KEY = jax.random.key(0)


def _tokens():
    logits = jax.random.normal(KEY, (3, 5, 4))
    labels = jnp.array([[0, 1, 2, 3, 0], [1, -100, -100, -100, -100], [-100] * 5])
    return logits, labels


def test_loss_by_hand():
    logits, labels = _tokens()
    losses = -np.log(np.asarray(jax.nn.softmax(logits)))
    valid = [losses[0, n, k] for n, k in enumerate((0, 1, 2, 3, 0))] + [losses[1, 0, 1]]
    np.testing.assert_allclose(classification_loss(logits, labels), np.mean(valid), rtol=1e-5)
    np.testing.assert_allclose(c.sample_losses(logits, labels), [np.mean(valid[:5]), valid[5], 0.0], rtol=1e-5)
    np.testing.assert_array_equal(c.valid_counts(labels), [5, 1, 0])


def test_binary_loss_by_hand():
    logits, labels = jnp.array([[2.0], [-1.0]]), jnp.array([1, 1])
    want = np.mean(np.log1p(np.exp([-2.0, 1.0])))
    np.testing.assert_allclose(classification_loss(logits, labels), want, rtol=1e-6)


def test_mean_of_samples_weighted_by_labels_is_the_loss_of_the_batch():
    logits, labels = _tokens()
    per_case = {"loss": np.asarray(c.sample_losses(logits, labels)), "n": np.asarray(c.valid_counts(labels))}
    summary = summarize_per_case(per_case, {"loss": "n"})
    assert set(summary) == {"loss"}
    np.testing.assert_allclose(summary["loss"], classification_loss(logits, labels), rtol=1e-6)
    assert summarize_per_case({"loss": np.ones(2), "n": np.zeros(2)}, {"loss": "n"}) == {"loss": 0.0}


def test_no_valid_label_gives_zero_loss_and_gradient():
    logits, labels = _tokens()
    value, gradient = jax.value_and_grad(classification_loss)(logits[2:], labels[2:])
    assert value == 0
    assert not np.asarray(gradient).any()


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_large_logits_give_finite_losses(size):
    for logits in (jnp.full((2, 1), size), jnp.array([[size, 0.0, -size], [0.0, size, 0.0]])):
        value, gradient = jax.value_and_grad(classification_loss)(logits, jnp.array([0, 1]))
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


def test_bfloat16_logits_have_a_float32_loss():
    logits, labels = _tokens()
    assert classification_loss(logits.astype(jnp.bfloat16), labels).dtype == jnp.float32


def test_accuracies_by_hand():
    labels = jnp.array([[0, 1, -100], [1, 1, 1], [-100] * 3])
    predicted = jnp.array([[0, 1, 1], [1, 0, 1], [0, 0, 0]])
    logits = jnp.where(predicted == 1, 1.0, -1.0)[..., None]
    np.testing.assert_array_equal(c.predictions(logits), predicted)
    np.testing.assert_array_equal(c.sequence_accuracy(logits, labels), [1, 0, 1])
    np.testing.assert_allclose(c.token_accuracy(logits, labels), [1, 2 / 3, 0], rtol=1e-6)
    sequence = c.sequence_accuracy(jnp.array([[0.1, 0.9], [0.9, 0.1], [0.9, 0.1]]), jnp.array([1, 1, -100]))
    np.testing.assert_array_equal(sequence, [1, 0, 0])


def test_confusion_leaves_ignored_labels_out():
    labels = jnp.array([[0, 1, 2, -100]])
    logits = jax.nn.one_hot(jnp.array([[0, 2, 2, 1]]), 3)
    counts = c.confusion_counts(logits, labels, 3)
    np.testing.assert_array_equal(counts[0], [[1, 0, 0], [0, 0, 1], [0, 0, 1]])


def test_metrics_of_a_task_take_narrow_labels():
    logits, labels = _tokens()
    classes = logits.shape[-1]
    metrics, weighted_by = classification_metrics(token_level=True, num_labels=classes)
    batch = {"labels": labels.astype(jnp.int8)}
    shapes = dict.fromkeys(metrics, (3,)) | {"confusion": (3, classes, classes)}
    assert {name: metric(logits, batch).shape for name, metric in metrics.items()} == shapes
    assert weighted_by == {"loss": "valid_labels", "token_accuracy": "valid_labels"}


def test_averaged_logits_are_those_of_the_mean_probabilities():
    logits = 3 * jax.random.normal(jax.random.key(0), (4, 5, 3))
    got = jax.nn.softmax(c.averaged_logits(logits))
    np.testing.assert_allclose(got, jax.nn.softmax(logits).mean(axis=0), rtol=1e-5)
    binary = c.averaged_logits(logits[..., :1])
    np.testing.assert_allclose(jax.nn.sigmoid(binary), jax.nn.sigmoid(logits[..., :1]).mean(axis=0), rtol=1e-5)
