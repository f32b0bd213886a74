"""Errors of the final state of printed parts, beside those of every steady field: in their units, at the extremes."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float

from experiments.training import losses
from experiments.training.task import Batch

Metric = Callable[[Array, Batch], Array]
# Share of the nodes that count as the most displaced, or most stressed.
MOST = 0.01


def part_metrics(fields: Sequence[str], scales: Float[np.ndarray, " C"]) -> dict[str, Metric]:
    """Return metrics per part, [B], of every field: root mean squared and largest error, in its own unit, and the
    relative error at the hundredth of the nodes where it is largest."""

    def of(channel: int, function: Callable[[Array, Array, Array], Array]) -> Metric:
        def metric(prediction: Array, batch: Batch) -> Array:
            columns = (prediction[..., channel : channel + 1], batch["y"][..., channel : channel + 1])
            return function(*columns, _real(batch))

        return metric

    metrics: dict[str, Metric] = {}
    for channel, name in enumerate(fields):
        unit = np.float32(scales[channel])
        metrics[f"rms/{name}"] = of(
            channel, lambda p, t, m, unit=unit: unit * jnp.sqrt(losses.mean_squared_error(p, t, m))
        )
        metrics[f"max_error/{name}"] = of(
            channel, lambda p, t, m, unit=unit: unit * jnp.max(jnp.where(m, jnp.abs(p - t)[..., 0], 0), axis=1)
        )
        metrics[f"rel_l2_largest/{name}"] = of(
            channel, lambda p, t, m: losses.relative_l2(p, t, largest_nodes(t[..., 0], m))
        )
    return metrics


def largest_nodes(values: Float[Array, "B N"], real: Bool[Array, "B N"]) -> Bool[Array, "B N"]:
    """Return the hundredth of the real nodes, at least one, whose values are farthest from 0, and their equals."""
    sizes = jnp.where(real, jnp.abs(values), -1.0)
    counts = jnp.maximum(jnp.ceil(MOST * jnp.sum(real, axis=1)), 1).astype(jnp.int32)
    descending = -jnp.sort(-sizes, axis=1)
    limits = jnp.take_along_axis(descending, counts[:, None] - 1, axis=1)
    return real & (sizes >= limits)


def _real(batch: Batch) -> Bool[Array, "B N"]:
    return batch["mask"] if "mask" in batch else jnp.ones(batch["y"].shape[:2], bool)
