"""The check of the factor of logits that every operation takes."""

import math
from typing import Any

import jax


def check_scale(scale: Any, remedy: str = "such as 1.0 or D ** -0.5") -> float:
    """Return `scale` as a float, or raise ValueError unless it is a positive finite Python number."""
    if isinstance(scale, jax.core.Tracer):
        raise ValueError("scale is a traced value; give a Python number, or multiply q by the traced factor instead.")
    try:
        value = math.nan if isinstance(scale, str) else float(scale)
    except (TypeError, ValueError):
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"scale is {scale!r}; give a positive finite number, {remedy}.")
    return value
