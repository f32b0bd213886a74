"""Which mistake of units would explain that values are outside of the training's: mm for m, degrees for radians."""

import re
from collections.abc import Sequence

import numpy as np

Span = Sequence[float]

# By what values are multiplied when they are in the first unit where the training has the second.
_LENGTHS = {
    "mm where the training has m": 1e3,
    "m where the training has mm": 1e-3,
    "cm where the training has m": 1e2,
    "m where the training has cm": 1e-2,
    "mm where the training has cm": 10.0,
    "cm where the training has mm": 0.1,
    "inches where the training has m": 1 / 0.0254,
    "m where the training has inches": 0.0254,
    "feet where the training has m": 1 / 0.3048,
    "m where the training has feet": 0.3048,
}
_ANGLES = {
    "degrees where the training has radians": float(np.rad2deg(1.0)),
    "radians where the training has degrees": float(np.deg2rad(1.0)),
}
_THOUSANDS = {
    "a thousandth of the training's unit, such as Pa for kPa": 1e3,
    "a thousand of the training's unit, such as kPa for Pa": 1e-3,
    "a millionth of the training's unit, such as Pa for MPa": 1e6,
    "a million of the training's unit, such as MPa for Pa": 1e-6,
}
# Of inputs, whose ranges are wide, only the most common.
_INPUT_LENGTHS = dict(list(_LENGTHS.items())[:4])
_ANGLE_NAMES = re.compile(r"angle|theta|alpha|beta|aoa|phi|psi|yaw|pitch|roll|incidence|direction", re.IGNORECASE)
_TEMPERATURE_NAMES = re.compile(r"temp|^t_|^t$", re.IGNORECASE)
_LENGTH_NAMES = re.compile(
    r"length|width|height|radius|diameter|thickness|chord|span|depth|size|distance", re.IGNORECASE
)
_KELVIN = 273.15
# Sizes of samples vary; a mistake of units is far beyond that.
_SLACK = 0.2


def named_unit(name: str, found: Span, known: Span, sizes: tuple[float, Span] | None = None) -> str:
    """Return the mistake that would explain values `found` outside of the training's `known`, '' where none would.

    Both are the least and the greatest value. Coordinates are compared by `sizes`: that of the sample, and the least
    and greatest of the training samples.
    """
    if sizes is not None:
        size, (least, greatest) = sizes
        if (1 - _SLACK) * least <= size <= (1 + _SLACK) * greatest:
            return ""
        fits = [
            text
            for text, factor in _LENGTHS.items()
            if (1 - _SLACK) * least <= size / factor <= (1 + _SLACK) * greatest
        ]
        # Of several the one after which the size is most like the training's.
        middle = np.sqrt(least * greatest)
        fits.sort(key=lambda text: abs(np.log(size / _LENGTHS[text] / middle)) if middle else 0.0)
        return f" (as if in {fits[0]})" if fits else ""
    if _TEMPERATURE_NAMES.search(name):
        shifts = {"°C where the training has K": -_KELVIN, "K where the training has °C": _KELVIN}
        for text, shift in shifts.items():
            if _inside([value - shift for value in found], known):
                return f" (as if in {text})"
    if _ANGLE_NAMES.search(name):
        kinds = _ANGLES
    else:
        kinds = {**_INPUT_LENGTHS, **_THOUSANDS} if _LENGTH_NAMES.search(name) else _THOUSANDS
    fits = (
        text
        for text, factor in kinds.items()
        if _inside([value / factor for value in found], known) and not (factor > 1 and _of_like_size(found, known))
    )
    text = next(fits, None)
    return "" if text is None else f" (as if in {text})"


def _of_like_size(found: Span, known: Span) -> bool:
    """Return whether values are hardly larger than the training's, which no mistake makes larger by so little."""
    return max(map(abs, found)) <= 2 * max(map(abs, known))


def _inside(found: Span, known: Span) -> bool:
    margin = _SLACK * (known[1] - known[0])
    # Values far smaller than the training's are inside of every range around 0, but say nothing of the unit.
    large = max(map(abs, found)) >= 0.01 * max(map(abs, known))
    return known[0] - margin <= min(found) and max(found) <= known[1] + margin and large
