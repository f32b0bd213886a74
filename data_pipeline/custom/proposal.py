"""What a user's file or folder holds, and with which options a model could be trained on it."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipeline.custom.folder import find_samples, holds_many
from data_pipeline.custom.readers import TIME, Reference, read_contents
from data_pipeline.custom.sample import MESH_POINTS, Contents
from data_pipeline.errors import DataError

# Names under which files often have the coordinates, the first that is there being taken.
_POINTS = ("points", "pos", "coords", "coordinates", "xyz", "verts", "vertices", "nodes", "surface_mesh_centers", "x")
# Fields that say where a point is or what it belongs to, and are known before a simulation.
_KNOWN = ("normal", "sdf", "distance", "marker", "mask", "boundary", "material", "region", "block", "tags", "type")
# Numbers of points and cells that programs write beside the fields.
_NUMBERS = (
    *("id", "ids", "globalnodeid", "globalelementid", "point_ids", "cell_ids", "vtkoriginalpointids", "index"),
    *("elementblockids", "objectid", "ispatch", "issurface"),
)


# A sample as a whole has at most so many values: longer arrays are something else.
_MOST_VALUES = 64
# Fields of so few different values, at more points than that, are pieces of material or sources, not results.
_MOST_PIECES, _FEW_POINTS = 8, 64
_MOST_PANELS = 6


@dataclass(frozen=True)
class Proposal:
    """The options of `configs/custom.py`, by name, that differ from their defaults, and a remark on what is missing.

    `fields` are the names of the inputs and of the targets.
    """

    options: dict[str, str]
    fields: dict[str, list[str]]
    remark: str

    def arguments(self) -> list[str]:
        """Return the options as a shell takes them, spelled as for training."""
        return [shlex.quote(f"--config.data.{name}={value}") for name, value in self.options.items()]


def samples_at(path: Path, pattern: str = "") -> dict[str, list[Reference]]:
    """Return the samples of a file, or of a folder those whose names fit a pattern, by split; raises DataError.

    Several files in the folder of a case are the steps of a series where their names differ in a number alone.
    """
    if path.is_file() and not holds_many(path):
        return {"": [Reference(path)]}
    try:
        return find_samples(path, pattern)
    except DataError:
        splits = find_samples(path, pattern, in_time=True)
        files = [one.path for steps in splits.values() for one in steps]
        if len(_stems(files)) != 1:
            raise
        return splits


def _stems(files: list[Path]) -> set[str]:
    """Return the names of files without the number at their end, and their suffixes."""
    return {re.sub(r"[-_.]?\d+$", "", file.stem) + file.suffix for file in files}


def describe_contents(contents: Contents) -> list[str]:
    """Return one line per array: where it is, its shape, type and range."""
    lines = []
    if contents.mesh is not None:
        mesh = contents.mesh
        centres = ", whose centres are the points" if contents.at_centres else ""
        lines.append(f"mesh of type {type(mesh).__name__}: {mesh.n_points} points, {mesh.n_cells} cells{centres}")
    for name, array in contents.arrays.items():
        lines.append(f"{name} {_facts(array)}")
    if contents.mesh is not None and not contents.at_centres:
        lines += [
            f"{name} {_facts(np.asarray(contents.mesh.cell_data[name]))}, at cells" for name in contents.mesh.cell_data
        ]
    return lines + [f"{name}: neither numbers nor text" for name in contents.unreadable]


def propose(path: Path, reference: Reference, steps: int = 2, cell_data: str = "") -> tuple[Proposal, Contents]:
    """Return the options with which samples like this one at `path` could be trained on, and what is read with them.

    Values of the sample are inputs, and of the fields at the points those that mark some of them, have few different
    values, or whose names speak of geometry or material; the other fields are targets. A sample of a series is one of
    `steps` in time. `cell_data` is that option where it is chosen already. Raises DataError where nothing can be the
    points.
    """
    contents = read_contents(reference, cell_data=cell_data)
    mesh = contents.mesh
    if not cell_data and mesh is not None and len(mesh.cell_data) and not len(mesh.point_data):
        cell_data = "centres"
        contents = read_contents(reference, cell_data=cell_data)
    points = MESH_POINTS if contents.mesh is not None else _points(contents, str(reference))
    parts = {"inputs": [], "targets": []}
    for name, array in contents.arrays.items():
        part = None if name == points else _part(name, array, len(contents.arrays[points]), bool(reference.series))
        if part is not None:
            parts[part].append(name)
    named = {part: ",".join(names) for part, names in parts.items()}
    options = {"path": str(path), "points": points, **named, "cell_data": cell_data}
    if reference.series and steps > 1:
        parts["inputs"] = [name for name in parts["inputs"] if name not in (TIME, "TimeValue")]
        options |= {"inputs": ",".join(parts["inputs"]), "time": "rollout"}
    defaults = {"points": MESH_POINTS, "inputs": "", "targets": "", "cell_data": ""}
    chosen = {name: value for name, value in options.items() if value != defaults.get(name)}
    return Proposal(chosen, parts, "; ".join(_remarks(parts["targets"], "time" in options, contents))), contents


def _remarks(targets: list[str], in_time: bool, contents: Contents) -> Iterator[str]:
    """Yield what the options alone do not say."""
    if not targets:
        yield "no field at the points is left to predict; name one by --config.data.targets"
    if in_time:
        yield (
            "these are steps in time: with time=rollout the next is predicted from the last, with time=input each "
            "from its time"
        )
    at_cells = [] if contents.mesh is None or contents.at_centres else contents.mesh.cell_data
    left_out = [name for name in at_cells if name not in contents.arrays and not _is_number(name)]
    if left_out:
        yield (
            f"{', '.join(left_out)} are at the cells and left out: --config.data.cell_data=nodes averages them to the "
            "points, =centres makes the centres of the cells the points"
        )


def shown_fields(proposal: Proposal, contents: Contents, most: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return at most `most` points [N, D] and the last six of the proposed fields there by title, vectors as lengths.

    Coordinates that do not vary are left out.
    """
    options = proposal.options
    points = contents.arrays[options.get("points", MESH_POINTS)]
    chosen = np.arange(len(points))
    if len(points) > most:
        chosen = np.sort(np.random.default_rng(0).choice(len(points), most, replace=False))
    spread = np.ptp(points, axis=0)
    places = points[chosen][:, spread > 1e-6 * spread.max()]
    names = [name for part in ("inputs", "targets") for name in proposal.fields[part]]
    fields = {}
    for name in names:
        array = contents.arrays[name]
        if array.ndim and len(array) == len(points):
            vector = array.ndim == 2 and array.shape[1] > 1
            values = np.linalg.norm(array, axis=1) if vector else array.reshape(len(points))
            fields[f"|{name}|" if vector else name] = values[chosen].astype(float)
    return places, dict(list(fields.items())[-_MOST_PANELS:]) or {"points": np.arange(len(chosen), dtype=float)}


def _points(contents: Contents, where: str) -> str:
    lower = {name.lower(): name for name in contents.arrays}
    named = [lower[name] for name in _POINTS if name in lower]
    candidates = named + list(contents.arrays)
    shaped = (name for name in candidates if _is_coordinates(contents.arrays[name]))
    found = next(shaped, None)
    if found is None:
        raise DataError(
            f"{where} has the arrays {sorted(contents.arrays)}, none of which is [N, 2] or [N, 3] as coordinates are; "
            "store them, or name an array of one column by --config.data.points"
        )
    return found


def _is_coordinates(array: np.ndarray) -> bool:
    return array.ndim == 2 and array.shape[1] in (2, 3) and array.dtype.kind == "f" and len(array) > 1


def _part(name: str, array: np.ndarray, count: int, in_time: bool) -> str | None:
    """Return whether an array is an input or a target, None for what is neither.

    Fields of a first step, `in_time`, often have few different values.
    """
    lower = name.lower()
    if array.dtype.kind not in "fbiu" or lower.startswith("cells") or _is_number(name):
        return None
    if array.ndim in (1, 2) and len(array) == count:
        # A field that is 0 everywhere is one before anything has happened.
        marks = np.isin(array, (0, 1)).all() and array.any()
        if marks and array.all() and array.size == count:  # a group of all points marks none of them
            return None
        pieces = not in_time and count > _FEW_POINTS and array.any() and len(np.unique(array)) <= _MOST_PIECES
        return "inputs" if marks or pieces or any(word in lower for word in _KNOWN) else "targets"
    return "inputs" if array.ndim < 2 and array.size <= _MOST_VALUES else None


def _is_number(name: str) -> bool:
    """Tell whether a field is a number of a point, a cell or a group of Gmsh, whose named groups are fields."""
    return name.lower().split(":")[-1] in _NUMBERS or name.startswith("gmsh:")


def _facts(array: np.ndarray) -> str:
    facts = f"{array.shape} {array.dtype}"
    if array.dtype.kind not in "fbiu" or not array.size:
        return facts
    known = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    missing = array.size - known.size
    extent = f"{known.min():.5g} to {known.max():.5g}" if known.size else "no numbers"
    return f"{facts}: {extent}" + (f", {missing} NaN or infinite" if missing else "")
