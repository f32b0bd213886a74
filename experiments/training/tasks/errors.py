"""How errors of a data set are measured: relative to the fields, or in units of their spread, with that beside it."""

from collections.abc import Callable
from functools import partial

import numpy as np
from jax import Array
from jaxtyping import Float

from data_pipeline.dataset import PDEDataset
from experiments.training import losses
from experiments.training.losses import Field, Mask

SPREAD, RELATIVE = "rel_spread", "rel_l2"
ERROR_WORDS = {SPREAD: "error in units of the spread", RELATIVE: "relative L2 error"}


def headline_of(dataset: PDEDataset) -> str:
    """Return the metric that ranks checkpoints and names the result."""
    return SPREAD if dataset.spread_fields else RELATIVE


def field_errors(dataset: PDEDataset) -> dict[str, Callable[[Field, Field, Mask], Array]]:
    """Return the errors (prediction, target, mask) -> [B] of steady fields by name, the headline first.

    In units of the spread, one of several fields also by field, `rel_spread[NAME]`, and relative to the field itself,
    `rel_l2[NAME]`; `rel_l2` over all then divides each field by its root mean square over the training points.
    """
    if not dataset.spread_fields:
        return {RELATIVE: partial(losses.relative_l2, offset=dataset.metric_offset)}
    errors = {
        SPREAD: partial(losses.relative_to_spread, fields=len(dataset.spread_fields)),
        RELATIVE: partial(_weighted, weights=_size_weights(dataset), offset=dataset.offset),
    }
    if len(dataset.spread_fields) > 1:
        for name, channels in _channels(dataset).items():
            offset = dataset.offset[channels].astype(np.float32)
            errors[f"{SPREAD}[{name}]"] = _of(channels, partial(losses.relative_to_spread, fields=1))
            errors[f"{RELATIVE}[{name}]"] = _of(channels, partial(losses.relative_l2, offset=offset))
    return errors


def _channels(dataset: PDEDataset) -> dict[str, slice]:
    ends = np.cumsum(list(dataset.spread_fields.values())).tolist()
    return {
        name: slice(end - width, end) for (name, width), end in zip(dataset.spread_fields.items(), ends, strict=True)
    }


def _of(channels: slice, error: Callable[[Field, Field, Mask], Array]) -> Callable[[Field, Field, Mask], Array]:
    return lambda prediction, target, mask: error(prediction[..., channels], target[..., channels], mask)


def _size_weights(dataset: PDEDataset) -> Float[np.ndarray, " C"]:
    """Return spread over root mean square of the field of each channel: its mean square is 1 + the squared means."""
    weights = np.empty(dataset.c_out)
    for channels in _channels(dataset).values():
        weights[channels] = 1 / np.sqrt(1 + np.sum(np.square(dataset.offset[channels])))
    return weights


def _weighted(
    prediction: Field, target: Field, mask: Mask, weights: Float[np.ndarray, " C"], offset: Float[np.ndarray, " C"]
) -> Array:
    factors, shift = weights.astype(np.float32), (weights * offset).astype(np.float32)
    return losses.relative_l2(factors * prediction, factors * target, mask, offset=shift)
