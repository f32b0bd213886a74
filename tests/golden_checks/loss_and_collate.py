"""Golden files of losses with their gradients, and of the collation of samples into a batch."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_pipeline.sequence.collate import collate
from experiments.training.classification import summed_losses, valid_counts
from tests.golden_checks.core import Comparison, largest_error

TOLERANCE = 2e-6


def classification_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the mean cross-entropy over all valid labels of a batch, as a step of training divides its sums."""
    return jnp.sum(summed_losses(logits, labels)) / jnp.maximum(jnp.sum(valid_counts(labels)), 1.0)


_differentiated = jax.jit(jax.value_and_grad(classification_loss))


def check(arrays: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> list[Comparison]:
    """Compare every loss of the file, its gradient for the logits, and the collated batch."""
    tags = [key.removeprefix("output/").removesuffix(".loss") for key in arrays if key.endswith(".loss")]
    comparisons = [comparison for tag in tags for comparison in _check_loss(arrays, config, tag)]
    if "collate_inputs" in config:
        comparisons += _check_collate(arrays, config)
    return comparisons


def _check_loss(arrays: Mapping[str, np.ndarray], config: Mapping[str, Any], tag: str) -> list[Comparison]:
    logits, labels = jnp.asarray(arrays[f"input/{tag}.logits"]), arrays[f"input/{tag}.labels"]
    if (logits.shape[-1] == 1) != (tag in config["binary_tags"]):
        raise ValueError(f"{tag} has logits {logits.shape}, which does not agree with binary_tags of the file")
    valid = labels != config["ignore_index"]
    targets = jnp.asarray(np.where(valid, labels, -100), jnp.int32)
    loss, gradient = _differentiated(logits, targets)
    # Without any valid label the mean of the original is NaN for several classes, where ours is 0.
    expected = arrays[f"output/{tag}.loss"] if valid.any() else np.float32(0)
    compared = [Comparison(f"{tag} loss", "output", largest_error(loss, expected), TOLERANCE * max(1.0, abs(expected)))]
    if valid.any():
        error = largest_error(gradient, arrays[f"grad_input/{tag}.logits"])
        compared.append(Comparison(f"{tag} logits", "gradient", error, TOLERANCE))
    return compared


def _check_collate(arrays: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> list[Comparison]:
    expected = {key.removeprefix("output/collate."): value for key, value in arrays.items() if "collate." in key}
    batch = collate(
        config["collate_inputs"],
        pad_id=config["collate_pad_id"],
        token_level=expected["labels"].ndim == 2,
        ignore_index=config["ignore_index"],
    )
    results = {"input_ids": batch.input_ids, "labels": batch.labels, "attention_mask": batch.mask}
    return [
        Comparison(f"collate {name}", "output", largest_error(results[name], value), 0.0)
        for name, value in expected.items()
    ]
