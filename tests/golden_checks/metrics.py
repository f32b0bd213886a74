"""Golden files of metrics: batches of logits and labels, and the metrics over all of them."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lra.task import classification_metrics
from experiments.training.task import summarize_per_case
from tests.golden_checks.core import Comparison, largest_error

TOLERANCE = 2e-6


def check(arrays: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> list[Comparison]:
    """Compare every metric of every task of the file."""
    comparisons = []
    for tag, expected in config["expected"].items():
        actual = _metrics(arrays, tag, config)
        for name, value in expected.items():
            error = largest_error(actual.get(name, np.inf), value)
            comparisons.append(Comparison(f"{tag} {name}", "output", error, TOLERANCE * max(1.0, abs(value))))
    return comparisons


def _metrics(arrays: Mapping[str, np.ndarray], tag: str, config: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of one task over its batches, as an evaluation computes them: per sample, then together."""
    batches = []
    for index in range(config["num_batches"]):
        logits, labels = (arrays[f"input/{tag}.{index}.{part}"] for part in ("logits", "labels"))
        labels = np.where(labels == config["ignore_index"], -100, labels)
        batch = {"labels": jnp.asarray(labels, jnp.int32)}
        batches.append(_per_sample(jnp.asarray(logits), batch))
    per_case = {name: np.concatenate([np.asarray(batch[name]) for batch in batches]) for name in batches[0]}
    _, weighted_by = classification_metrics(labels.ndim == 2, per_case["confusion"].shape[-1])
    return summarize_per_case(per_case, weighted_by)


@jax.jit
def _per_sample(logits: jax.Array, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Return every metric of every sample."""
    metrics, _ = classification_metrics(batch["labels"].ndim == 2, max(logits.shape[-1], 2))
    return {name: metric(logits, batch) for name, metric in metrics.items()}
