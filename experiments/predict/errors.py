"""How far predictions are from the truth, in the units of the fields, at the points where it is known."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

Fields = Mapping[str, Float[np.ndarray, "N C"]]
Errors = dict[str, float | int | None]
_NONE: Mapping[str, float] = MappingProxyType({})


def field_errors(prediction: Fields, truth: Fields, spreads: Mapping[str, float] = _NONE) -> dict[str, Errors]:
    """Return by field the relative L2 error, the root mean square error and the largest error of any channel.

    Where `spreads` has the spread of the field, `rel_spread` is the root mean square over points in units of it.
    Points whose truth is not finite do not count; `unknown` says how many they are, where there are any. A field that
    is known nowhere is left out, and the relative error of one that is zero everywhere is None.
    """
    errors: dict[str, Errors] = {}
    for name, values in truth.items():
        known = np.isfinite(values).all(axis=1)
        if not known.any():
            continue
        true = values[known].astype(np.float64)
        difference = prediction[name][known] - true
        # Divided by the largest magnitude first, so that no unit makes squares overflow or vanish.
        unit = float(np.abs(true).max())
        relative = np.linalg.norm(difference / unit) / np.linalg.norm(true / unit) if unit else None
        bound = float(np.abs(difference).max())
        rmse = bound * float(np.sqrt(np.mean(np.square(difference / bound)))) if bound else 0.0
        errors[name] = {"rel_l2": None if relative is None else float(relative), "rmse": rmse, "max": bound}
        if name in spreads:
            errors[name]["rel_spread"] = rmse * true.shape[1] ** 0.5 / spreads[name]
        if not known.all():
            errors[name]["unknown"] = int(np.count_nonzero(~known))
    return errors


def mean_errors(samples: Mapping[str, Mapping[str, Errors]]) -> dict[str, Errors]:
    """Return the means over samples of the errors by field, the largest error of all, and the sum of unknown points."""
    merge = {
        "rel_l2": np.mean,
        "rel_spread": np.mean,
        "rmse": np.mean,
        "max": np.max,
        "unknown": np.sum,
        "coverage_90": np.mean,
    }
    merged: dict[str, Errors] = {}
    for field in dict.fromkeys(name for errors in samples.values() for name in errors):
        found = [errors[field] for errors in samples.values() if field in errors]
        values = {kind: [one[kind] for one in found if one.get(kind) is not None] for kind in merge}
        merged[field] = {kind: float(merge[kind](given)) if given else None for kind, given in values.items()}
    return merged


def describe_errors(errors: Mapping[str, Errors]) -> list[str]:
    """Return one line per field."""
    lines = []
    for name, kinds in errors.items():
        relative = "undefined, the truth is zero" if kinds["rel_l2"] is None else f"{kinds['rel_l2']:.4e}"
        by_spread = kinds.get("rel_spread")
        spread = "" if by_spread is None else f"error in units of the spread {by_spread:.4e}, "
        line = (
            f"{name}: {spread}relative L2 error {relative}, RMS error {kinds['rmse']:.4e}, largest {kinds['max']:.4e}"
        )
        covered = kinds.get("coverage_90")
        line += "" if covered is None else f", 90 % intervals hold {100 * covered:.1f} % of the truth"
        unknown = kinds.get("unknown")
        lines.append(f"{line}; the truth is no number at {unknown:.0f} points, which do not count" if unknown else line)
    return lines
