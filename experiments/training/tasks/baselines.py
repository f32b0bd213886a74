"""What any model must beat: the error of a prediction that needs no model."""

import numpy as np
from jaxtyping import Float

from data_pipeline.dataset import PDEDataset, Split
from data_pipeline.streaming.rows import is_stored
from experiments.training.task import mean_of_defined

BASELINES = {"mean_predictor": "predicting the training mean", "persistence": "repeating the last known frame"}


def baseline_of(dataset: PDEDataset) -> str:
    """Return which of `BASELINES` belongs to the data set."""
    return "persistence" if dataset.kind in ("autoregressive", "mesh_series") else "mean_predictor"


def baseline_error(dataset: PDEDataset, split: Split) -> float:
    """Return the mean over samples of the headline error: in units of the spread where the targets are in these, else
    the relative L2 error, of samples whose targets are not 0 everywhere.

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
        # Squares of values far from 1 are no float32 numbers.
        target = np.asarray(target, np.float64)
        error = target - np.broadcast_to(prediction, target.shape)
        if dataset.spread_fields:
            size = np.sqrt(np.count_nonzero(points) * len(dataset.spread_fields))
        else:
            size = np.linalg.norm(target[points] + dataset.offset)
        errors.append(np.linalg.norm(error[points]) / size if size else np.nan)
    return float(mean_of_defined(np.array(errors)))


def training_mean(train: Split) -> Float[np.ndarray, "*T C"]:
    """Return the mean of every channel, and frame where there are frames, over real points of all samples."""
    if is_stored(train.arrays()):
        return train.y.point_mean()
    total = np.zeros(train.y.shape[2:])
    for case in range(len(train)):
        total += train.y[case][train.real(case)].sum(axis=0, dtype=np.float64)
    points = train.y.shape[0] * train.y.shape[1] if train.mask is None else train.mask.sum()
    return (total / points).astype(np.float32)
