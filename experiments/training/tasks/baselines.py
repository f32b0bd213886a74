"""What any model must beat: the error of a prediction that needs no model."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from data_pipeline.dataset import PDEDataset, Split
from data_pipeline.streaming.rows import is_stored
from experiments.training.task import mean_of_defined
from experiments.training.tasks.nearest_parts import nearest_parts_errors

BASELINES = {
    "mean_predictor": "predicting the training mean",
    "persistence": "repeating the last known frame",
    "nearest_parts": "the fields of the nearest training parts",
    "copy_last": "leaving every node as it is",
    "nearest_fill": "new nodes like the nearest below",
}
_FRAMES: Mapping[str, str] = {
    "autoregressive": "persistence", "mesh_series": "persistence", "layer_series": "nearest_fill",
}  # fmt: skip


def baseline_of(dataset: PDEDataset) -> str:
    """Return which of `BASELINES` belongs to the data set; of several the strongest."""
    return _FRAMES.get(dataset.kind, "mean_predictor")


def baseline_errors(dataset: PDEDataset, split: Split, first: int = 1) -> dict[str, float]:
    """Return the mean over samples of the headline error of predictions without a model, by their names.

    Parts that grow keep the state before step `first`, with new nodes at 0, or like the nearest node below them. Tests
    of printed parts are also compared with the training parts that are most like them. Of printed parts there are the
    medians too, NAME_median: the mean is dominated by parts that hardly move.
    """
    if dataset.kind == "layer_series":
        kept = {"copy_last": False, "nearest_fill": True}
        found = {
            name: [_still_error(split, case, first, fill) for case in range(len(split))] for name, fill in kept.items()
        }
    else:
        found = {baseline_of(dataset): _errors(dataset, split)}
        if dataset.mesh_of is not None and split is not dataset.train:
            found["nearest_parts"] = list(nearest_parts_errors(dataset, split))
    means = {name: float(mean_of_defined(np.array(errors))) for name, errors in found.items()}
    if dataset.mesh_of is None:
        return means
    return means | {f"{name}_median": float(np.nanmedian(errors)) for name, errors in found.items()}


def baseline_error(dataset: PDEDataset, split: Split) -> float:
    """Return the mean over samples of the headline error of the first of `baseline_errors`."""
    return float(mean_of_defined(np.array(_errors(dataset, split))))


def _errors(dataset: PDEDataset, split: Split) -> list[float]:
    """Return the headline error of each sample: in units of the spread where the targets are in these, else the
    relative L2 error, NaN of samples whose targets are 0 everywhere.

    Predicted is the training mean of each channel (and frame), or the last frame that is known at the start.
    """
    mean = training_mean(dataset.train) if baseline_of(dataset) == "mean_predictor" else None
    errors = []
    for case in range(len(split)):
        target, points = split.y[case], split.real(case)
        if dataset.kind == "mesh_series":
            prediction, target, points = target[:, :1], target[:, 1:], split.free[case]
        elif dataset.kind == "autoregressive":
            prediction = split.fx[case][:, None, -dataset.c_out :]
        else:
            prediction = mean
        errors.append(case_error(dataset, np.broadcast_to(prediction, target.shape)[points], target[points]))
    return errors


def _still_error(split: Split, case: int, first: int, fill: bool) -> float:
    """Return the relative error of keeping every state, over the nodes that are there at the predicted steps."""
    layer, real = split.layer[case], split.real(case)
    state = np.asarray(split.y[case][:, first - 1], np.float64)
    error, size = 0.0, 0.0
    for step in range(first, int(split.steps[case])):
        if fill:
            new = layer == step
            state[new] = state[split.below[case][new]]
        there = real & (layer <= step)
        truth = np.asarray(split.y[case][there, step], np.float64)
        error += np.square(state[there] - truth).sum()
        size += np.square(truth).sum()
    return np.sqrt(error / size) if size else np.nan


def case_error(
    dataset: PDEDataset, prediction: Float[np.ndarray, "N *T C"], target: Float[np.ndarray, "N *T C"]
) -> float:
    """Return the headline error of one sample from its real points; NaN where its target is 0 everywhere."""
    # Squares of values far from 1 are no float32 numbers.
    target = np.asarray(target, np.float64)
    if dataset.spread_fields:
        size = np.sqrt(len(target) * len(dataset.spread_fields))
    else:
        size = np.linalg.norm(target + dataset.offset)
    return float(np.linalg.norm(target - prediction) / size) if size else np.nan


def training_mean(train: Split) -> Float[np.ndarray, "*T C"]:
    """Return the mean of every channel, and frame where there are frames, over real points of all samples."""
    if is_stored(train.arrays()):
        return train.y.point_mean()
    total = np.zeros(train.y.shape[2:])
    for case in range(len(train)):
        total += train.y[case][train.real(case)].sum(axis=0, dtype=np.float64)
    points = train.y.shape[0] * train.y.shape[1] if train.mask is None else train.mask.sum()
    return (total / points).astype(np.float32)
