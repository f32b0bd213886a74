"""How far predictions are from the truth, in the units of the fields."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

Fields = Mapping[str, Float[np.ndarray, "N C"]]


def field_errors(prediction: Fields, truth: Fields) -> dict[str, dict[str, float]]:
    """Return by field the relative L2 error, the root mean square error and the largest error of any channel.

    The relative error of a field that is zero everywhere is infinite.
    """
    errors = {}
    for name, values in truth.items():
        difference = (prediction[name] - values).astype(np.float64)
        size = float(np.linalg.norm(values.astype(np.float64)))
        errors[name] = {
            "rel_l2": float(np.linalg.norm(difference)) / size if size else float("inf"),
            "rmse": float(np.sqrt(np.mean(np.square(difference)))),
            "max": float(np.abs(difference).max()),
        }
    return errors


def mean_errors(samples: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Return the means over samples of the errors by field; the largest error is that of all."""
    first = next(iter(samples.values()))
    merge = {"rel_l2": np.mean, "rmse": np.mean, "max": np.max}
    return {
        field: {kind: float(merge[kind]([errors[field][kind] for errors in samples.values()])) for kind in kinds}
        for field, kinds in first.items()
    }


def describe_errors(errors: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return one line per field."""
    return [
        f"{name}: relative L2 error {kinds['rel_l2']:.4e}, RMS error {kinds['rmse']:.4e}, largest {kinds['max']:.4e}"
        for name, kinds in errors.items()
    ]
