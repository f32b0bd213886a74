"""MED files as meshio needs them: with one step in time, and with something for every type of cells.

It gives the steps of a field other names, and refuses fields and families that some types of cells do not have, such as
the elements within a boundary.
"""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from data_pipeline import hdf5

_FIELDS, _MESHES, _CELLS, _NODES = "CHA", "ENS_MAA", "MAI", "NOE"
_WITHOUT_PROFILE = "MED_NO_PROFILE_INTERNAL"
# What the standard calls the number of a step, that of an iteration within it, and its time.
_STEP, _ITERATION, _TIME = "NDT", "NOR", "PDT"


class _Step(NamedTuple):
    number: int
    iteration: int


def times_of(path: Path) -> list[float]:
    """Return the times of the steps of all fields, or their numbers where times repeat; raises DataError."""
    with hdf5.open_hdf5(path, "a MED file") as file:
        times = _steps(file)
    distinct = len(set(times.values())) == len(times)
    return list(times.values()) if distinct else [float(step.number) for step in times]


def complete_file(path: Path, number: int | None = None) -> BytesIO:
    """Return the content of a file, or the fields and the mesh of the step that `number` counts from 0.

    Fields that have one step are in all. Cells of a type without a field have NaN, those without a family the family 0.
    Raises DataError.
    """
    content = BytesIO()
    with hdf5.open_hdf5(path, "a MED file") as file, h5py.File(content, "w") as part:
        for name, item in hdf5.groups(file).items():
            if number is None or name not in (_FIELDS, _MESHES):
                file.copy(item, part, name)
        if number is not None:
            _copy_step(file, part, list(_steps(file))[number])
        counts = {kind: count for mesh in hdf5.groups(part[_MESHES]).values() for kind, count in _cells(mesh).items()}
        for field in hdf5.groups(part[_FIELDS]).values() if _FIELDS in part else ():
            for step in hdf5.groups(field).values():
                _fill_field(step, counts)
    content.seek(0)
    return content


def _copy_step(file: h5py.Group, part: h5py.Group, wanted: _Step) -> None:
    for place in (_FIELDS, _MESHES):
        target = part.create_group(place)
        for name, group in hdf5.groups(file[place]).items():
            steps = _steps_of(group)
            chosen = wanted
            if place == _MESHES and wanted not in steps:
                # The mesh that was last before, or the first.
                chosen = max((step for step in steps if step <= wanted), default=min(steps, default=wanted))
            copied = target.create_group(name)
            copied.attrs.update(group.attrs)
            for key, item in hdf5.groups(group).items():
                if len(steps) < 2 or _step(item) in (None, chosen):
                    file.copy(item, copied, key)
            if not len(copied):
                del target[name]


def _cells(mesh: h5py.Group) -> dict[str, int]:
    """Return the numbers of cells by type, each of which gets families where one has them."""
    found: dict[str, int] = {}
    for place in (mesh, *hdf5.groups(mesh).values()):
        kinds = hdf5.groups(place[_CELLS]) if isinstance(place.get(_CELLS), h5py.Group) else {}
        counts = {kind: int(np.ravel(group["NOD"].attrs["NBR"])[0]) for kind, group in kinds.items()}
        if any("FAM" in group for group in kinds.values()):
            for kind, group in kinds.items():
                if "FAM" not in group:
                    group.create_dataset("FAM", data=np.zeros(counts[kind], int))
        found |= counts
    return found


def _fill_field(step: h5py.Group, counts: Mapping[str, int]) -> None:
    """Add the types of cells that a field at cells does not have, with NaN."""
    known = {name: group for name, group in hdf5.groups(step).items() if name != _NODES}
    for way in {name.partition(".")[0] for name in known}:
        like = next(group for name, group in known.items() if name.partition(".")[0] == way)
        (values, *_) = hdf5.groups(like).values()
        rows = int(np.ravel(values.attrs["NBR"])[0]) or 1
        for kind in counts.keys() - {name.partition(".")[2] for name in known}:
            added = step.create_group(f"{way}.{kind}")
            added.attrs["PFL"] = np.bytes_(_WITHOUT_PROFILE)
            profile = added.create_group(_WITHOUT_PROFILE)
            profile.attrs.update({"NBR": counts[kind], "NGA": values.attrs["NGA"]})
            profile.create_dataset("CO", data=np.full(values["CO"].size // rows * counts[kind], np.nan))


def _steps(file: h5py.Group) -> dict[_Step, float]:
    """Return the times of the steps of those fields that have several, in order; nothing where none has."""
    found: dict[_Step, float] = {}
    fields = hdf5.find(file, _FIELDS)
    for group in hdf5.groups(fields).values() if fields is not None else ():
        steps = _steps_of(group)
        found |= steps if len(steps) > 1 else {}
    return dict(sorted(found.items()))


def _steps_of(group: h5py.Group) -> Mapping[_Step, float]:
    """Return the times of the steps of a field or of a mesh."""
    return {step: float(item.attrs[_TIME]) for item in hdf5.groups(group).values() if (step := _step(item)) is not None}


def _step(item: h5py.Group) -> _Step | None:
    """Return which step a group is; None for one that is none."""
    if not all(name in item.attrs for name in (_STEP, _ITERATION, _TIME)):
        return None
    return _Step(*(int(np.ravel(item.attrs[name])[0]) for name in (_STEP, _ITERATION)))
