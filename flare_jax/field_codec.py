"""Between fields in the units of the data and the encoded arrays that a model takes and gives."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Num
from numpy.typing import ArrayLike

# Of the largest extent of the points; a coordinate that varies by less is constant, as in training.
_FLAT = 1e-6

Inputs = Mapping[str, Any]
Fields = dict[str, np.ndarray]


@dataclass(frozen=True)
class FieldCodec:
    """Coordinates `axes` of the points and `inputs` are encoded, outputs are decoded into the fields `targets`.

    `inputs` and `targets` map names to numbers of channels. Encoded is `(x − x_mean) / x_std` per channel [C_in],
    decoded `(y · y_std + y_mean) · scales` per channel [C_out], all in float64.
    """

    axes: tuple[int, ...]
    inputs: Mapping[str, int]
    targets: Mapping[str, int]
    x_mean: Float[np.ndarray, " C_in"]
    x_std: Float[np.ndarray, " C_in"]
    y_mean: Float[np.ndarray, " C_out"]
    y_std: Float[np.ndarray, " C_out"]
    scales: Float[np.ndarray, " C_out"]

    @property
    def c_in(self) -> int:
        """The number of channels that the model takes."""
        return len(self.axes) + sum(self.inputs.values())

    @property
    def c_out(self) -> int:
        """The number of channels that the model gives."""
        return sum(self.targets.values())

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "FieldCodec":
        """Undo `to_json`; further entries do not matter. Raises KeyError, TypeError or ValueError for other content."""
        inputs, targets = dict(content["inputs"]), dict(content["targets"])
        numbers = {name: np.asarray(content[name], np.float64) for name in _NUMBERS}
        channels = {True: len(content["axes"]) + sum(inputs.values()), False: sum(targets.values())}
        for name, array in numbers.items():
            if array.shape != (channels[name.startswith("x_")],):
                raise ValueError(f"{name} has shape {array.shape} for {channels[name.startswith('x_')]} channels")
        return cls(tuple(content["axes"]), inputs, targets, **numbers)

    def to_json(self) -> dict[str, Any]:
        """Return the codec as JSON can hold it, with every digit."""
        names = {"axes": list(self.axes), "inputs": dict(self.inputs), "targets": dict(self.targets)}
        return {**names, **{name: getattr(self, name).tolist() for name in _NUMBERS}}

    def encode(self, points: ArrayLike, inputs: Inputs, where: str = "the cloud") -> Float[np.ndarray, "N C_in"]:
        """Return what the model takes of points [N, D] and of inputs by name, in the units of the data.

        An input is [N, C], [N] for one channel, or the same at all points: [C], or a number for one channel. `where`
        stands for the cloud in errors. Raises ValueError for points and inputs that the model does not take.
        """
        points = np.asarray(points)
        _check_numeric(points, f"the points of {where}")
        if points.ndim != 2 or not len(points):
            raise ValueError(f"the points of {where} have shape {points.shape}, but must be [N, D] with N above 0")
        self._check_axes(points, where)
        missing, unknown = sorted(set(self.inputs) - set(inputs)), sorted(set(inputs) - set(self.inputs))
        if missing or unknown:
            problem = f"lacks the input {missing[0]!r}" if missing else f"has the input {unknown[0]!r}"
            raise ValueError(f"{where} {problem}, but the model takes {dict(self.inputs) or 'none'}; match them")
        given = [self._at_points(name, inputs[name], len(points), where) for name in self.inputs]
        features = np.concatenate([points[:, self.axes], *given], axis=-1, dtype=np.float64)
        return ((features - self.x_mean) / self.x_std).astype(np.float32)

    def decode(self, outputs: Num[np.ndarray, "*S C_out"]) -> Fields:
        """Return the fields [..., C] by name that the model's outputs stand for, as float64."""
        values = (np.asarray(outputs, np.float64) * self.y_std + self.y_mean) * self.scales
        parts = np.split(values, np.cumsum(list(self.targets.values()))[:-1], axis=-1)
        return dict(zip(self.targets, parts, strict=True))

    def _at_points(self, name: str, value: Any, count: int, where: str) -> Num[np.ndarray, "N C"]:
        array, width = np.asarray(value), self.inputs[name]
        _check_numeric(array, f"the input {name!r} of {where}")
        if array.shape == (count,) and (width == 1 or count != width):
            array = array[:, None]
        elif array.ndim < 2:
            array = np.broadcast_to(array, (count, array.size))
        array = fitting(array, width)
        if array.shape != (count, width):
            raise ValueError(
                f"{where} has the input {name!r} of shape {np.shape(value)}, but the model takes {dict(self.inputs)} "
                f"channels at its {count} points; match them"
            )
        return array

    def _check_axes(self, points: np.ndarray, where: str) -> None:
        dimensions = points.shape[1]
        if max(self.axes) >= dimensions:
            raise ValueError(
                f"the points of {where} have {dimensions} coordinates, but the model takes number {max(self.axes)}, "
                "counted from 0; store the points like those of the training"
            )
        extents, round_off = np.ptp(points.astype(np.float64), axis=0), _round_off(points)
        for axis in set(range(dimensions)) - set(self.axes):
            if extents[axis] > max(_FLAT * extents.max(), round_off[axis]):
                raise ValueError(
                    f"coordinate {axis} of the points of {where} varies, but the model takes only the coordinates "
                    f"{self.axes}, which alone varied in training; predict on points of one plane or line"
                )


_NUMBERS = ("x_mean", "x_std", "y_mean", "y_std", "scales")


def fitting(field: Num[np.ndarray, "N C"], width: int) -> Num[np.ndarray, "N _"]:
    """Return a field without channels beyond `width` that are zero: mesh files give vectors in the plane three."""
    return field[:, :width] if field.shape[1] > width and not field[:, width:].any() else field


def _check_numeric(array: np.ndarray, what: str) -> None:
    if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
        raise ValueError(f"{what} hold NaN, infinity or no numbers (dtype {array.dtype}); give finite numbers")


def _round_off(points: Num[np.ndarray, "N D"]) -> Float[np.ndarray, " D"]:
    """Return the size of differences that are rounding of the largest magnitude, as the training's loaders see it."""
    single = (points == points.astype(np.float32)).all(0)
    digits = np.where(single, np.finfo(np.float32).eps, np.finfo(np.float64).eps)
    return 4 * digits * np.abs(points).max(0)
