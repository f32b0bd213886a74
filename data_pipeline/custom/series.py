"""Series in time: ParaView's collections and lists of files, and files whose names differ in a number."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from data_pipeline.custom.readers import Reference
from data_pipeline.errors import DataError
from data_pipeline.mesh_steps import times_of

# A collection, and the list of files that ParaView writes beside them (`flow.vtu.series`).
SERIES_SUFFIXES = (".pvd", ".series")


def steps_of(path: Path) -> list[Reference]:
    """Return the steps of a series in its order; raises DataError, also for files in other folders."""
    try:
        pairs = _collection(path) if path.suffix.lower() == ".pvd" else _listed(path)
    except (ElementTree.ParseError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as a series ({error}); get the file again") from error
    files, times = [Path(name) for name, _ in pairs], [time for _, time in pairs]
    strange = next((file for file in files if file.is_absolute() or ".." in file.parts or not file.name), None)
    if strange is not None:
        raise DataError(f"{path} names the file {str(strange)!r}; put the files of a series beside or below it")
    missing = next((file for file in files if not (path.parent / file).exists()), None)
    if missing is not None:
        raise DataError(
            f"{path} names the file {str(missing)!r}, which is not there; get it, or take it out of the list"
        )
    if not np.isfinite(times).all():
        raise DataError(f"{path} has a step whose time is no finite number; correct it")
    if len(set(times)) < len(times):
        raise DataError(f"{path} has several parts at one time; save each step as one file, such as .vtm")
    name = path.name.split(".")[0]
    return [
        Reference(path.parent / file, case=f"{name}_{number:04d}", time=time, series=name, number=number)
        for number, (file, time) in enumerate(zip(files, times, strict=True))
    ]


def steps_within(path: Path) -> list[Reference]:
    """Return the steps that a mesh file holds; raises DataError."""
    return [
        Reference(path, case=f"{path.stem}_{number:04d}", time=time, series=path.stem, number=number, within=number)
        for number, time in enumerate(times_of(path))
    ]


def parts_of(path: Path) -> list[str]:
    """Return the names of the files of a series; none of one that cannot be read."""
    try:
        return [step.path.name for step in steps_of(path)]
    except (DataError, OSError):
        return []


def as_steps(files: Sequence[Path], name: str) -> list[Reference]:
    """Return files, in their order, as the steps of series `name`."""
    return [
        Reference(file, case=f"{name}_{number:04d}", series=name, number=number) for number, file in enumerate(files)
    ]


def by_name(files: Sequence[Path]) -> list[Reference]:
    """Return files in natural order as steps of series: those whose names differ in the number at their end alone."""
    series: dict[str, list[Path]] = {}
    for file in files:
        series.setdefault(re.sub(r"[-_.]?\d+$", "", file.stem) or file.parent.name, []).append(file)
    return [step for name, steps in series.items() for step in as_steps(steps, name)]


def joined(references: Sequence[Reference]) -> dict[str, list[Reference]]:
    """Return steps by the names of their series; raises DataError for a sample that is no step."""
    series: dict[str, list[Reference]] = {}
    for reference in references:
        if reference.problem:
            raise DataError(reference.problem)
        if not reference.series:
            raise DataError(
                f"data.time wants series, but {reference} is a single sample; put the steps of every case into a "
                "folder or a series file (.pvd), or leave data.time out"
            )
        series.setdefault(reference.series, []).append(reference)
    return series


def _collection(path: Path) -> list[tuple[str, float]]:
    entries = list(ElementTree.parse(path).iter("DataSet"))
    return [(entry.get("file", ""), float(entry.get("timestep", number))) for number, entry in enumerate(entries)]


def _listed(path: Path) -> list[tuple[str, float]]:
    return [(str(entry["name"]), float(entry["time"])) for entry in json.loads(path.read_text())["files"]]
