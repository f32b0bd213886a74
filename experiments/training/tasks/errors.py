"""How errors of a data set are measured: relative to the fields, or in units of their spread, with that beside it."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from jax import Array
from jaxtyping import Float, Int

from data_pipeline.dataset import PDEDataset
from experiments.training import losses
from experiments.training.losses import Field, Mask
from experiments.training.task import Batch

Error = Callable[[Field, Field, Mask], Array]
SPREAD, RELATIVE, RMS = "rel_spread", "rel_l2", "rms"
ERROR_WORDS = {SPREAD: "error in units of the spread", RELATIVE: "relative L2 error"}


def headline_of(dataset: PDEDataset) -> str:
    """Return the metric that ranks checkpoints and names the result."""
    return SPREAD if dataset.spread_fields else RELATIVE


def relative_counts(dataset: PDEDataset) -> Callable[[Batch], Array]:
    """Return over how many samples a loss of relative errors is a mean: those that have one."""
    return lambda batch: losses.has_relative_error(batch["y"], batch.get("mask"), offset=dataset.metric_offset)


def field_errors(dataset: PDEDataset) -> dict[str, Error]:
    """Return the errors (prediction, target, mask) -> [B] of steady fields by name, the headline first.

    Of several fields each has its own, `rel_l2/NAME`, and `rel_spread/NAME` where errors are in units of the spread;
    `rel_l2` over all then divides each field by its root mean square over the training points.
    """
    columns = columns_of(dataset)
    several = columns if len(columns) > 1 else {}
    errors: dict[str, Error] = {RELATIVE: partial(losses.relative_l2, offset=dataset.metric_offset)}
    if dataset.spread_fields:
        weighted = partial(_weighted, weights=_size_weights(dataset, columns), offset=dataset.offset)
        errors = {SPREAD: partial(losses.relative_to_spread, fields=len(columns)), RELATIVE: weighted}
        errors |= {
            f"{SPREAD}/{name}": of_channels(c, partial(losses.relative_to_spread, fields=1))
            for name, c in several.items()
        }
    for name, channels in several.items():
        offset = None if dataset.metric_offset is None else dataset.metric_offset[channels]
        errors[f"{RELATIVE}/{name}"] = of_channels(channels, partial(losses.relative_l2, offset=offset))
    return errors


def with_units(
    dataset: PDEDataset, results: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]
) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """Return the metrics per sample of every split and set of weights, with `rms/NAME` for every field beside them.

    That is the root mean square error over the points of the sample, in the unit of the field; of vectors that of their
    length. Data sets whose errors are not in units of a spread get none.
    """
    columns = columns_of(dataset) if dataset.spread_fields else {}
    name_of = {name: f"{SPREAD}/{name}" if len(columns) > 1 else SPREAD for name in columns}

    def add(found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        absolute = {
            f"{RMS}/{name}": np.asarray(found[name_of[name]], np.float64) * dataset.channels.scales[channels.start]
            for name, channels in columns.items()
        }
        return {**found, **absolute}

    return {split: {kind: add(found) for kind, found in sets.items()} for split, sets in results.items()}


def columns_of(dataset: PDEDataset) -> dict[str, slice]:
    """Return the channels of every field by name."""
    widths = dataset.spread_fields or ({} if dataset.channels is None else dataset.channels.targets)
    ends = np.cumsum(list(widths.values()), dtype=int).tolist()
    return {name: slice(end - width, end) for (name, width), end in zip(widths.items(), ends, strict=True)}


def of_channels(channels: slice | Int[np.ndarray, " C"], error: Error) -> Error:
    """Return an error of some channels alone."""
    return lambda prediction, target, mask: error(prediction[..., channels], target[..., channels], mask)


def _size_weights(dataset: PDEDataset, columns: Mapping[str, slice]) -> Float[np.ndarray, " C"]:
    """Return spread over root mean square of the field of each channel: its mean square is 1 + the squared means."""
    weights = np.empty(dataset.c_out)
    for channels in columns.values():
        weights[channels] = 1 / np.sqrt(1 + np.sum(np.square(dataset.offset[channels])))
    return weights


def _weighted(
    prediction: Field, target: Field, mask: Mask, weights: Float[np.ndarray, " C"], offset: Float[np.ndarray, " C"]
) -> Array:
    factors, shift = weights.astype(np.float32), (weights * offset).astype(np.float32)
    return losses.relative_l2(factors * prediction, factors * target, mask, offset=shift)
