"""Errors of pressure and wall shear stress over the whole surface of a body, one number per run.

Fields are [N, 4]: pressure, then the three components of the shear stress, normalised by `mean` and `std` [4]. All sums
are float64; what runs report is computed by `experiments.training.tasks.surface_errors`, which is compared with this.
The error of all channels together is dominated by the pressure, and that of the shear magnitude is blind to its
direction: `wall_shear_vector_rel_l2` is not.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

Field = Float[np.ndarray, "N 4"]
Scale = Float[np.ndarray, "4"]


def surface_metrics(prediction: Field, target: Field, mean: Scale, std: Scale) -> dict[str, float]:
    """Return the metrics of one run from its normalised fields."""
    prediction, target = np.asarray(prediction, np.float64), np.asarray(target, np.float64)
    mse = float(np.mean(np.square(prediction - target)))
    predicted, true = (
        field * np.asarray(std, np.float64) + np.asarray(mean, np.float64) for field in (prediction, target)
    )
    shear, true_shear = predicted[:, 1:], true[:, 1:]
    return {
        "mse": mse,
        "full_rel_l2": _relative(predicted, true),
        "pressure_rel_l2": _relative(predicted[:, 0], true[:, 0]),
        "wall_shear_rel_l2": _relative(np.linalg.norm(shear, axis=-1), np.linalg.norm(true_shear, axis=-1)),
        "wall_shear_vector_rel_l2": _relative(shear, true_shear),
    }


def mean_over_runs(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the unweighted mean of every metric over the runs."""
    return {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}


def relative_objective(run: Mapping[str, float]) -> float:
    """Return the mean of the relative errors of pressure and shear magnitude, an objective in physical units."""
    return (run["pressure_rel_l2"] + run["wall_shear_rel_l2"]) / 2


def _relative(prediction: np.ndarray, target: np.ndarray) -> float:
    return float(np.linalg.norm(prediction - target) / np.linalg.norm(target))
