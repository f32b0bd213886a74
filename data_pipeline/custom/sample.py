"""One sample of a user's data: which arrays it is made of, and the checks that every file has to pass."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from data_pipeline.errors import DataError
from data_pipeline.files import check_shape, finite

if TYPE_CHECKING:
    from pyvista import DataSet

Cells = tuple[tuple[str, Int[np.ndarray, "F K"]], ...]

# Cell types by the number of their points, in the plane and in space.
_PLANE_CELLS = {1: "vertex", 2: "line", 3: "triangle", 4: "quad", 6: "triangle6", 8: "quad8", 9: "quad9"}
_SPACE_CELLS = {1: "vertex", 2: "line", 3: "triangle", 4: "tetra", 6: "wedge", 8: "hexahedron", 10: "tetra10"}
_CELLS = (_PLANE_CELLS, _SPACE_CELLS)
CELL_DATA = ("", "centres", "nodes")
# The name of the points of a mesh file, which have none.
MESH_POINTS = "points"


class Field(NamedTuple):
    """An array of a file, or the columns `first` … `last` of it; `called` is its name where that is not the array's."""

    name: str
    first: int | None = None
    last: int | None = None
    called: str = ""

    @property
    def label(self) -> str:
        """A name for the columns that can be that of an array."""
        if self.called or self.first is None:
            return self.called or self.name
        return f"{self.name}_{self.first}" if self.first == self.last else f"{self.name}_{self.first}-{self.last}"


@dataclass(frozen=True)
class Fields:
    """What a sample is made of; `inputs` may be absent from the files only where nobody named them.

    `cells` is the array of the cells, beside those called `cells_TYPE`. `cell_data` says what becomes of the fields
    that a mesh has at its cells: '' leaves them out, 'centres' makes the cells' centres the points, 'nodes' averages.
    """

    points: str = "points"
    inputs: tuple[Field, ...] = (Field("inputs"),)
    targets: tuple[Field, ...] = (Field("targets"),)
    inputs_named: bool = False
    cells: str = "cells"
    cell_data: str = ""

    def names(self) -> set[str]:
        """Return the names of all arrays that are wanted, without those of cells."""
        return {self.points, *(f.name for f in self.inputs), *(f.name for f in self.targets)}


@dataclass(frozen=True)
class Contents:
    """Arrays of a file by name, those that are wanted or all; `present` are the names of all that are there.

    `mesh` is that of a mesh file, with all it holds; `at_centres` says that its cells, those of the highest dimension,
    are the points of the arrays. `unreadable` are arrays of neither numbers nor text.
    """

    arrays: Mapping[str, np.ndarray]
    present: Sequence[str]
    mesh: "DataSet | None" = None
    unreadable: Sequence[str] = ()
    at_centres: bool = False


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


def parse_fields(points: str, inputs: str, targets: str, present: Collection[str] = (), cell_data: str = "") -> Fields:
    """Return the fields that the options `points`, `inputs` and `targets` name; raises DataError for bad text.

    What is the name of an array among those `present` in a file is that array, whatever marks are in it.
    """
    defaults = Fields()
    if not points:
        raise DataError("data.points='' names no array; name that of the coordinates, such as points")
    check_cell_data(cell_data)
    given = _parse("data.inputs", inputs, present) or defaults.inputs
    wanted = _parse("data.targets", targets, present) or defaults.targets
    again = next((one.name for one in (*given, *wanted) if one.name == points), None)
    if again is not None:
        raise DataError(
            f"data.inputs={inputs!r} or data.targets={targets!r} names {again!r}, the coordinates, which every model "
            "is given; take it out"
        )
    answer = next((one.label for one in given if any(_overlap(one, other) for other in wanted)), None)
    if answer is not None:
        raise DataError(
            f"data.inputs={inputs!r} and data.targets={targets!r} both name {answer!r}, so that the model would be "
            "given its answer; take it out of one of them"
        )
    return Fields(points, given, wanted, inputs_named=bool(inputs), cell_data=cell_data)


def _overlap(one: Field, other: Field) -> bool:
    """Return whether two fields share a column of an array."""
    if one.name != other.name or one.first is None or other.first is None:
        return one.name == other.name
    return one.first <= other.last and other.first <= one.last


def check_cell_data(value: str) -> None:
    """Raise DataError unless `value` is one of the option `cell_data`."""
    if value not in CELL_DATA:
        known = ", ".join(repr(one) for one in CELL_DATA)
        raise DataError(f"data.cell_data={value!r} is not known; choose one of {known}")


def _parse(option: str, text: str, present: Collection[str]) -> tuple[Field, ...]:
    fields: list[Field] = []
    parts = text.split(",")
    while parts:
        # Names may hold commas: the longest that is there is taken.
        joined = (",".join(parts[:count]).strip() for count in range(len(parts), 0, -1))
        found = next(filter(None, (_field(name, present) for name in joined)), None)
        if found is None and parts[0].strip():
            found = _field(parts[0].strip(), None)
            if found is None:
                raise DataError(
                    f"{option}={text!r} is not understood at {parts[0].strip()!r}; write names separated by commas, "
                    f"with columns where not all are wanted: pressure,velocity:0-1{_listed(present)}"
                )
        parts = parts[found.name.count(",") + 1 if found else 1 :]
        fields += [found] if found else []
    labels = [one.label for one in fields]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise DataError(f"{option}={text!r} names {twice!r} twice; name every field once")
    return tuple(fields)


def _field(text: str, present: Collection[str] | None) -> Field | None:
    """Return the field that a text names: an array among those `present`, or columns of one; of None any array."""
    if present is not None and text in present:
        return Field(text)
    match = re.fullmatch(r"(.+?)(?::(\d+)(?:-(\d+))?)?", text)
    if match is None or (match[1] not in present if present is not None else ":" in match[1]):
        return None
    first = None if match[2] is None else int(match[2])
    last = first if match[3] is None else int(match[3])
    return None if first is not None and last < first else Field(match[1], first, last)


def _listed(present: Collection[str]) -> str:
    return f"; the arrays are {', '.join(sorted(present))}" if present else ""


def make_sample(name: str, contents: Contents, fields: Fields, where: str, targets_wanted: bool = True) -> Sample:
    """Return the sample made of the arrays of a file; `where` is for messages.

    Without `targets_wanted` a file may lack targets, and they may hold NaN where they are not known. Raises DataError.
    """
    points = _points(contents, fields.points, where)
    count = len(points)
    # Arrays that nobody asked for by name are taken where they are.
    inputs = [one for one in fields.inputs if fields.inputs_named or one.name in contents.arrays]
    targets = [one for one in fields.targets if targets_wanted or one.name in contents.arrays]
    check = finite if targets_wanted else _as_float
    return Sample(
        name,
        points,
        {one.label: finite(*_column(contents, one, count, where, "data.inputs", shared=True)) for one in inputs},
        {one.label: check(*_column(contents, one, count, where, "data.targets")) for one in targets},
        _cells(contents.arrays, fields, points, where) if contents.mesh is None else (),
    )


def _as_float(array: np.ndarray, where: str) -> np.ndarray:
    return array.astype(np.result_type(array.dtype, np.float32), copy=False)


def _points(contents: Contents, name: str, where: str) -> np.ndarray:
    arrays = contents.arrays
    if contents.mesh is not None and name not in arrays:
        name = MESH_POINTS
    if name not in arrays:
        raise DataError(_lacks(where, name, contents, "data.points"))
    check_shape(arrays[name], (None, None), f"{where}[{name}]")
    if arrays[name].shape[1] not in (1, 2, 3) or not len(arrays[name]):
        raise DataError(f"{where}[{name}] has shape {arrays[name].shape} where [N, 1 to 3] is expected; store N rows")
    return finite(arrays[name], f"{where}[{name}]")


def _column(
    contents: Contents, chosen: Field, count: int, where: str, option: str, shared: bool = False
) -> tuple[np.ndarray, str]:
    """Return a field as [N, C], and where it is; a `shared` one may hold one value or vector for the whole sample."""
    if chosen.name not in contents.arrays:
        raise DataError(_lacks(where, chosen.name, contents, option))
    place, array = f"{where}[{chosen.name}]", contents.arrays[chosen.name]
    if shared and array.ndim < 2 and array.shape != (count,):
        array = np.broadcast_to(array.reshape(1, -1), (count, array.size))
    elif array.ndim == 1:
        array = array[:, None]
    check_shape(array, (count, None), place)
    if chosen.first is not None:
        if chosen.last >= array.shape[1]:
            raise DataError(f"{place} has {array.shape[1]} columns, but {option} asks for column {chosen.last}")
        array = array[:, chosen.first : chosen.last + 1]
    return array, place


def _cells(arrays: Mapping[str, np.ndarray], fields: Fields, points: np.ndarray, where: str) -> Cells:
    """Return the cells of all arrays `cells_TYPE` and of the one that `fields` name, which are no fields themselves."""
    found, plain, taken = [], fields.cells, fields.names()
    for name in (name for name in arrays if name not in taken and (name == plain or name.startswith("cells_"))):
        place = f"{where}[{name}]"
        check_shape(arrays[name], (None, None), place)
        cells = arrays[name].astype(np.int64)
        if (cells != arrays[name]).any():
            raise DataError(f"{place} holds numbers that are no integers; store the numbers of the points of each cell")
        if cells.size and not (cells.min() >= 0 and cells.max() < len(points)):
            raise DataError(
                f"{place} names points {cells.min()} to {cells.max()}, but there are {len(points)}, numbered from 0"
            )
        kind = _CELLS[points.shape[1] == 3].get(cells.shape[1]) if name == plain else name.removeprefix("cells_")
        if kind is None:
            raise DataError(
                f"{place} has {cells.shape[1]} points per cell, which fits no cell type; call the array cells_TYPE "
                "with a VTK type, such as cells_hexahedron"
            )
        found.append((kind, cells))
    return tuple(found)


def _lacks(where: str, name: str, contents: Contents, option: str) -> str:
    if contents.mesh is not None and name in contents.mesh.cell_data:
        return (
            f"{where} has {name!r} at its cells, and fields are wanted at the points; set data.cell_data=nodes to "
            "average it to them, or data.cell_data=centres to make the centres of the cells the points"
        )
    present = sorted(contents.present)
    return f"{where} has the arrays {present} but lacks {name!r}; name the right one with {option}"
