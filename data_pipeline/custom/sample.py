"""One sample of a user's data: which arrays it is made of, and the checks that every file has to pass."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from data_pipeline.errors import DataError
from data_pipeline.files import check_shape, finite

Cells = tuple[tuple[str, Int[np.ndarray, "F K"]], ...]

# Cell types by the number of their points, in the plane and in space.
_PLANE_CELLS = {1: "vertex", 2: "line", 3: "triangle", 4: "quad", 6: "triangle6", 8: "quad8", 9: "quad9"}
_SPACE_CELLS = {1: "vertex", 2: "line", 3: "triangle", 4: "tetra", 6: "wedge", 8: "hexahedron", 10: "tetra10"}
# Between the cell type and the number of its block, where the cells of one type are in several arrays.
BLOCK = "#"


class Field(NamedTuple):
    """An array of a file, or the columns `first` … `last` of it."""

    name: str
    first: int | None = None
    last: int | None = None

    @property
    def label(self) -> str:
        """A name for the columns that can be that of an array."""
        if self.first is None:
            return self.name
        return f"{self.name}_{self.first}" if self.first == self.last else f"{self.name}_{self.first}-{self.last}"


@dataclass(frozen=True)
class Fields:
    """What a sample is made of; `inputs` may be absent from the files only where nobody named them."""

    points: str = "points"
    inputs: tuple[Field, ...] = (Field("inputs"),)
    targets: tuple[Field, ...] = (Field("targets"),)
    inputs_named: bool = False

    def names(self) -> set[str]:
        """Return the names of all arrays that are wanted, without those of cells."""
        return {self.points, *(f.name for f in self.inputs), *(f.name for f in self.targets)}


@dataclass(frozen=True)
class Sample:
    """Points [N, 1 to 3] and, by the labels of the fields, inputs and targets [N, C], in the precision of the file.

    `targets` is empty where the file has none. `cells` are those of the file, by VTK cell type.
    """

    name: str
    points: Float[np.ndarray, "N D"]
    inputs: Mapping[str, Float[np.ndarray, "N C"]] = field(default_factory=dict)
    targets: Mapping[str, Float[np.ndarray, "N C"]] = field(default_factory=dict)
    cells: Cells = ()

    def __len__(self) -> int:
        return len(self.points)

    def features(self) -> Float[np.ndarray, "N C"]:
        """Return the coordinates and the inputs behind them as one array."""
        return np.concatenate([self.points, *self.inputs.values()], axis=-1)

    def fields(self) -> Float[np.ndarray, "N C"]:
        """Return the targets as one array."""
        return np.concatenate(list(self.targets.values()), axis=-1)

    def layout(self) -> dict[str, dict[str, int]]:
        """Return the numbers of channels, which must be those of all samples of a set."""
        parts = {"points": {"points": self.points}, "inputs": self.inputs, "targets": self.targets}
        return {part: {name: array.shape[-1] for name, array in arrays.items()} for part, arrays in parts.items()}


def parse_fields(points: str, inputs: str, targets: str) -> Fields:
    """Return the fields that the options `points`, `inputs` and `targets` name; raises DataError for bad text."""
    defaults = Fields()
    if not points:
        raise DataError("data.points='' names no array; name that of the coordinates, such as points")
    return Fields(
        points,
        _parse("data.inputs", inputs) or defaults.inputs,
        _parse("data.targets", targets) or defaults.targets,
        inputs_named=bool(inputs),
    )


def _parse(option: str, text: str) -> tuple[Field, ...]:
    fields = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"([^:]+)(?::(\d+)(?:-(\d+))?)?", part)
        if match is None or (match[3] is not None and int(match[3]) < int(match[2])):
            raise DataError(
                f"{option}={text!r} is not understood at {part!r}; write names separated by commas, with columns "
                "where not all are wanted: pressure,velocity:0-1"
            )
        first = None if match[2] is None else int(match[2])
        fields.append(Field(match[1], first, first if match[3] is None else int(match[3])))
    labels = [one.label for one in fields]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise DataError(f"{option}={text!r} names {twice!r} twice; name every field once")
    return tuple(fields)


def make_sample(
    name: str,
    arrays: Mapping[str, np.ndarray],
    fields: Fields,
    where: str,
    present: Sequence[str],
    targets_wanted: bool = True,
) -> Sample:
    """Return the sample made of the arrays of a file; `where` and the names `present` in it are for messages.

    Without `targets_wanted` a file may lack some or all targets, and then has none. Raises DataError.
    """
    points = _points(arrays, fields.points, where, present)
    count = len(points)
    # Arrays that nobody asked for by name are taken where they are.
    inputs = [one for one in fields.inputs if fields.inputs_named or one.name in arrays]
    complete = all(one.name in arrays for one in fields.targets)
    targets = fields.targets if targets_wanted or complete else ()
    sample = Sample(
        name,
        points,
        {one.label: _column(arrays, one, count, where, present, "data.inputs", shared=True) for one in inputs},
        {one.label: _column(arrays, one, count, where, present, "data.targets") for one in targets},
        _cells(arrays, points, where),
    )
    if targets_wanted and not any(target.any() for target in sample.targets.values()):
        raise DataError(f"the targets of {where} are all zero, so that its relative error is undefined; leave it out")
    return sample


def _points(arrays: Mapping[str, np.ndarray], name: str, where: str, present: Sequence[str]) -> np.ndarray:
    if name not in arrays:
        raise DataError(_lacks(where, name, present, "data.points"))
    check_shape(arrays[name], (None, None), f"{where}[{name}]")
    if arrays[name].shape[1] not in (1, 2, 3) or not len(arrays[name]):
        raise DataError(f"{where}[{name}] has shape {arrays[name].shape} where [N, 1 to 3] is expected; store N rows")
    return finite(arrays[name], f"{where}[{name}]")


def _column(
    arrays: Mapping[str, np.ndarray],
    chosen: Field,
    count: int,
    where: str,
    present: Sequence[str],
    option: str,
    shared: bool = False,
) -> np.ndarray:
    """Return a field as [N, C]; a `shared` one may hold one value, or one per channel, for the whole sample."""
    if chosen.name not in arrays:
        raise DataError(_lacks(where, chosen.name, present, option))
    place, array = f"{where}[{chosen.name}]", arrays[chosen.name]
    if shared and array.ndim < 2 and array.shape != (count,):
        array = np.broadcast_to(array.reshape(1, -1), (count, array.size))
    elif array.ndim == 1:
        array = array[:, None]
    check_shape(array, (count, None), place)
    if chosen.first is not None:
        if chosen.last >= array.shape[1]:
            raise DataError(f"{place} has {array.shape[1]} columns, but {option} asks for column {chosen.last}")
        array = array[:, chosen.first : chosen.last + 1]
    return finite(array, place)


def _cells(arrays: Mapping[str, np.ndarray], points: np.ndarray, where: str) -> Cells:
    """Return the cells of all arrays `cells` and `cells_TYPE`."""
    found = []
    for name in (name for name in arrays if name == "cells" or name.startswith("cells_")):
        place = f"{where}[{name}]"
        check_shape(arrays[name], (None, None), place)
        cells = arrays[name].astype(np.int64)
        if cells.size and not (cells.min() >= 0 and cells.max() < len(points)):
            raise DataError(
                f"{place} names points {cells.min()} to {cells.max()}, but there are {len(points)}, numbered from 0"
            )
        found.append((_cell_type(name, cells.shape[1], points.shape[1], place), cells))
    return tuple(found)


def _cell_type(name: str, corners: int, dimensions: int, place: str) -> str:
    if name != "cells":
        return name.removeprefix("cells_").partition(BLOCK)[0]
    known = _SPACE_CELLS if dimensions == 3 else _PLANE_CELLS
    if corners not in known:
        raise DataError(
            f"{place} has {corners} points per cell, which fits no cell type; call the array cells_TYPE with a VTK "
            "type, such as cells_hexahedron"
        )
    return known[corners]


def _lacks(where: str, name: str, present: Sequence[str], option: str) -> str:
    return f"{where} has the arrays {sorted(present)} but lacks {name!r}; name the right one with {option}"
