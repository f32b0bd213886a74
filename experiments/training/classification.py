"""Losses and metrics of classification, one label per sample or one per token.

Logits have one axis more than labels. A last axis of size 1 means two classes, class 1 where the logit is positive.
Labels `IGNORE_INDEX` count nowhere, except that a sample's only label makes its prediction wrong. Results per sample
are [B]; where samples have different numbers of valid labels, a mean over them needs `valid_counts` as weights.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from data_pipeline.sequence.dataset import IGNORE_INDEX

Logits = Float[Array, "B C"] | Float[Array, "B N C"]
Labels = Int[Array, " B"] | Int[Array, "B N"]


def summed_losses(logits: Logits, labels: Labels) -> Float[Array, " B"]:
    """Return the sum of the cross-entropies of the valid labels of each sample."""
    return _sum_per_sample(_label_losses(logits, labels))


def sample_losses(logits: Logits, labels: Labels) -> Float[Array, " B"]:
    """Return the mean cross-entropy over the valid labels of each sample, 0 where there are none."""
    return summed_losses(logits, labels) / jnp.maximum(valid_counts(labels), 1.0)


def valid_counts(labels: Labels) -> Float[Array, " B"]:
    """Return how many labels of each sample count."""
    return _sum_per_sample((labels != IGNORE_INDEX).astype(jnp.float32))


def predictions(logits: Logits) -> Labels:
    """Return the predicted classes."""
    if logits.shape[-1] == 1:
        return (logits[..., 0] > 0).astype(jnp.int32)
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def sequence_accuracy(logits: Logits, labels: Labels) -> Float[Array, " B"]:
    """Return 1 for samples whose valid labels are all predicted, else 0; no valid token label counts as all."""
    right = predictions(logits) == labels
    if labels.ndim == 1:
        return right.astype(jnp.float32)
    return jnp.all(right | (labels == IGNORE_INDEX), axis=1).astype(jnp.float32)


def token_accuracy(logits: Float[Array, "B N C"], labels: Int[Array, "B N"]) -> Float[Array, " B"]:
    """Return the share of each sample's valid labels that are predicted, 0 where there are none."""
    right = (predictions(logits) == labels) & (labels != IGNORE_INDEX)
    return jnp.sum(right, axis=1) / jnp.maximum(valid_counts(labels), 1.0)


def averaged_logits(logits: Float[Array, "S *B C"]) -> Float[Array, "*B C"]:
    """Return logits of the mean of the probabilities that several predictions [S, ...] give to each class."""
    logits = logits.astype(jnp.float32)
    if logits.shape[-1] == 1:
        # The probabilities of both classes, without a difference of nearly equal numbers.
        positive, negative = (jax.nn.logsumexp(jax.nn.log_sigmoid(sign * logits), axis=0) for sign in (1, -1))
        return positive - negative
    return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - jnp.log(len(logits))


def confusion_counts(logits: Logits, labels: Labels, num_labels: int) -> Int[Array, "B C C"]:
    """Return how often each class (rows) was predicted as each class (columns), per sample."""
    truth, predicted = (values.reshape(labels.shape[0], -1) for values in (labels, predictions(logits)))
    # An ignored label is no class, so its row of the one-hot code is zero.
    truth, predicted = (jax.nn.one_hot(values, num_labels, dtype=jnp.float32) for values in (truth, predicted))
    return jnp.einsum("bnk,bnl->bkl", truth, predicted, precision="highest").astype(jnp.int32)


def _label_losses(logits: Logits, labels: Labels) -> Float[Array, " B"] | Float[Array, "B N"]:
    """Return the cross-entropy of every label, 0 for those that do not count."""
    valid = labels != IGNORE_INDEX
    target = jnp.where(valid, labels, 0)
    logits = logits.astype(jnp.float32)
    if logits.shape[-1] == 1:
        losses = jax.nn.softplus(logits[..., 0]) - target * logits[..., 0]
    else:
        losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), target[..., None], axis=-1)[..., 0]
    return jnp.where(valid, losses, 0.0)


def _sum_per_sample(values: Array) -> Float[Array, " B"]:
    return values if values.ndim == 1 else jnp.sum(values, axis=1)
