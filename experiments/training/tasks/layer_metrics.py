"""Metrics of series whose nodes appear step by step, over whole marches and step by step.

Prediction and truth are [B, N, T, C], in the units of the scaled fields; those of a single field are given in its own
unit too. Only nodes that are there count, from the first predicted step to the last of each part; steps of which
nothing is predicted are NaN.
"""

from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float

from experiments.training.task import Batch
from experiments.training.tasks.errors import RELATIVE, RMS

Metric = Callable[[Array, Batch], Array]
Series = Float[Array, "B N T C"]
Counted = Bool[Array, "B N T"]
# Added to the spread of the truth in R², as in the original.
_SPREAD = 1e-6


def counted_entries(batch: Batch, first: int) -> Counted:
    """Return which entries of the series of a batch count: nodes that are there, at predicted steps."""
    steps = jnp.arange(batch["y"].shape[2])
    predicted = (steps >= first) & (steps < batch["steps"][:, None])
    there = batch["layer"][..., None] <= steps
    there = there & batch["mask"][..., None] if "mask" in batch else there
    return there & predicted[:, None]


def sums_of_squares(prediction: Series, truth: Series, counted: Counted, axes: tuple[int, ...]) -> dict[str, Array]:
    """Return the sums over `axes` that all metrics are made of: error, truth, its spread, and the number of entries."""
    weight = jnp.broadcast_to(counted[..., None], truth.shape)
    error = jnp.where(weight, prediction - truth, 0.0)
    real = jnp.where(weight, truth, 0.0)
    count = jnp.sum(weight, axis=axes, dtype=jnp.float32)
    mean = jnp.sum(real, axis=axes, keepdims=True) / jnp.maximum(jnp.expand_dims(count, axes), 1.0)
    return {
        "error": jnp.sum(jnp.square(error), axis=axes),
        "truth": jnp.sum(jnp.square(real), axis=axes),
        "spread": jnp.sum(jnp.where(weight, jnp.square(truth - mean), 0.0), axis=axes),
        "count": count,
    }


def relative_error(sums: Mapping[str, Array]) -> Array:
    """Return ‖p − t‖ / ‖t‖, NaN of a truth that is 0 everywhere, infinite of a prediction that is no number."""
    defined = sums["truth"] > 0
    value = jnp.sqrt(sums["error"] / jnp.where(defined, sums["truth"], 1.0))
    return jnp.where(defined, jnp.where(jnp.isnan(value), jnp.inf, value), jnp.nan)


def mean_square(sums: Mapping[str, Array]) -> Array:
    """Return the mean squared error, NaN of nothing."""
    return jnp.where(sums["count"] > 0, sums["error"] / jnp.maximum(sums["count"], 1.0), jnp.nan)


def explained(sums: Mapping[str, Array]) -> Array:
    """Return R² = 1 − SSE / (SST + 1e-6) over all entries together, NaN of nothing."""
    return jnp.where(sums["count"] > 0, 1.0 - sums["error"] / (sums["spread"] + _SPREAD), jnp.nan)


_KINDS: Mapping[str, Callable[[Mapping[str, Array]], Array]] = {
    "rel_l2": relative_error,
    "mse": mean_square,
    "r2": explained,
}


def case_metrics(fields: Sequence[str], scales: Float[np.ndarray, " C"], first: int) -> dict[str, Metric]:
    """Return metrics per part, [B]: over all predicted steps, at the last one, of new nodes alone, of every field."""
    overall = (1, 2, 3)

    def whole(kind: str) -> Metric:
        def metric(prediction: Array, batch: Batch) -> Array:
            return _KINDS[kind](sums_of_squares(prediction, batch["y"], counted_entries(batch, first), overall))

        return metric

    def last(prediction: Array, batch: Batch) -> Array:
        steps = jnp.arange(batch["y"].shape[2])
        counted = counted_entries(batch, first) & (steps == batch["steps"][:, None] - 1)[:, None]
        return relative_error(sums_of_squares(prediction, batch["y"], counted, overall))

    def of_new(prediction: Array, batch: Batch) -> Array:
        new = batch["layer"][..., None] == jnp.arange(batch["y"].shape[2])
        return relative_error(sums_of_squares(prediction, batch["y"], counted_entries(batch, first) & new, overall))

    def growth(prediction: Array, batch: Batch) -> Array:
        """Return the root mean squared error of the last step over that of the first."""
        steps, counted = jnp.arange(batch["y"].shape[2]), counted_entries(batch, first)
        chosen = [counted & at[:, None] for at in ((steps == batch["steps"][:, None] - 1), (steps == first)[None])]
        end, begin = (mean_square(sums_of_squares(prediction, batch["y"], some, overall)) for some in chosen)
        return jnp.where(begin > 0, jnp.sqrt(end / jnp.where(begin > 0, begin, 1.0)), jnp.nan)

    metrics = {kind: whole(kind) for kind in _KINDS}
    metrics |= {"rel_l2_last": last, "rel_l2_new_nodes": of_new, "error_growth": growth}
    return metrics | _of_fields(fields, scales, first, overall)


def step_metrics(fields: Sequence[str], scales: Float[np.ndarray, " C"], first: int) -> dict[str, Metric]:
    """Return metrics per part and step, [B, T], of all fields together and of every one."""
    per_step = (1, 3)

    def of_steps(kind: str) -> Metric:
        def metric(prediction: Array, batch: Batch) -> Array:
            return _KINDS[kind](sums_of_squares(prediction, batch["y"], counted_entries(batch, first), per_step))

        return metric

    return {kind: of_steps(kind) for kind in _KINDS} | _of_fields(fields, scales, first, per_step)


def _of_fields(
    fields: Sequence[str], scales: Float[np.ndarray, " C"], first: int, axes: tuple[int, ...]
) -> dict[str, Metric]:
    """Return relative error and root mean squared error, in the unit of the files, of every field."""

    def of(channel: int, kind: str) -> Metric:
        def metric(prediction: Array, batch: Batch) -> Array:
            columns = (prediction[..., channel : channel + 1], batch["y"][..., channel : channel + 1])
            sums = sums_of_squares(*columns, counted_entries(batch, first), axes)
            if kind == RELATIVE:
                return relative_error(sums)
            return jnp.sqrt(mean_square(sums)) * np.float32(scales[channel])

        return metric

    return {f"{kind}/{name}": of(c, kind) for kind in (RELATIVE, RMS) for c, name in enumerate(fields)}
