"""Which samples a user's folder or HDF5 file holds, by the folders or groups that say what they are for."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from data_pipeline.custom.described import SUFFIX as DESCRIBED_SUFFIX
from data_pipeline.custom.described import count_described, is_described
from data_pipeline.custom.readers import HDF5_SUFFIXES, SUFFIXES, Reference, list_groups, natural_key
from data_pipeline.custom.series import (
    SERIES_SUFFIXES,
    as_steps,
    by_name,
    parts_of,
    steps_of,
    steps_within,
)
from data_pipeline.errors import DataError
from data_pipeline.files import chosen_files, matching
from data_pipeline.mesh_steps import is_temporal

# Files that name their parts are read so far to find them.
_INDEX_BYTES = 1 << 20
_OF_MANY = (*HDF5_SUFFIXES, *SERIES_SUFFIXES)
# Names of the folders, or groups, of splits, in small letters; those that begin with `test` are tests.
_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "testing": "test"}
EXAMPLE = "python -m data_pipeline.custom.example --out=FOLDER"


def holds_many(path: Path) -> bool:
    """Return whether a file holds several samples, or may."""
    return path.suffix.lower() in _OF_MANY or is_temporal(path) or is_described(path)


def find_samples(path: Path, pattern: str = "", in_time: bool = False) -> dict[str, list[Reference]]:
    """Return the samples of a folder or file by split, in natural order of their names; '' is no split.

    `pattern` (`*.vtu`) chooses among the files of a folder. With `in_time` the files of a case are the steps of a
    series: those in its folder, or those whose names differ in the number at their end. Raises DataError where there
    are none.
    """
    if path.is_file():
        splits = _in_file(path)
    elif path.is_dir():
        names = _split_names((p.name for p in path.iterdir() if p.is_dir()), path)
        splits = {"": _in_folder(path, pattern, in_time, cases=not names)}
        splits |= {split: _in_folder(path / name, pattern, in_time, cases=True) for split, name in names.items()}
    else:
        raise DataError(f"data.path={str(path)!r} does not exist; put samples there, or write example ones: {EXAMPLE}")
    splits = {name: references for name, references in splits.items() if references}
    if not splits:
        chosen = f" whose names fit data.files={pattern!r}" if pattern else ""
        raise DataError(
            f"data.path={str(path)!r} holds no samples{chosen}; they are files ending in {', '.join(SUFFIXES)}, there, "
            "in its subfolders train, val and test, or in a folder for each"
        )
    return splits


def _split_names(names: Iterable[str], path: Path) -> dict[str, str]:
    """Return the folders or groups of splits by what they are called here; raises DataError for two of one."""
    known = sorted(name for name in names if name.lower() in _SPLITS or name.lower().startswith("test"))
    splits: dict[str, str] = {}
    for name in known:
        split = _SPLITS.get(name.lower(), name.lower())
        if split in splits:
            raise DataError(f"{path} has {splits[split]} and {name}, both for {split}; keep one of them")
        splits[split] = name
    return splits


def _in_folder(folder: Path, pattern: str, in_time: bool, cases: bool) -> list[Reference]:
    """Return the samples in a folder; with `cases`, where it holds no files, those of its subfolders, one in each."""
    files = _sample_files(folder, pattern)
    if files and in_time:
        whole = [path for path in files if holds_many(path)]
        steps = [reference for path in whole for reference in _samples_of(path)]
        return steps + by_name([path for path in files if path not in whole])
    if files or not cases:
        return [reference for path in files for reference in _samples_of(path)]
    folders = sorted((p for p in matching(folder, "*") if p.is_dir()), key=lambda path: natural_key(path.name))
    return [reference for case in folders for reference in _in_case(case, pattern, in_time)]


def _in_case(folder: Path, pattern: str, in_time: bool) -> list[Reference]:
    files = _sample_files(folder, pattern)
    if len(files) == 1 and (files[0].suffix.lower() in SERIES_SUFFIXES or is_temporal(files[0])):
        steps = _samples_of(files[0])
        return [replace(step, case=f"{folder.name}_{step.case}", series=folder.name) for step in steps]
    if in_time:
        return as_steps(files, folder.name)
    if len(files) > 1:
        raise DataError(
            f"{folder} holds {len(files)} files of which each may be the sample, "
            f"{', '.join(p.name for p in files[:4])}; choose by data.files, such as data.files=*.vtu, or set data.time "
            "where they are steps in time"
        )
    return [Reference(path, case=folder.name) for path in files]


def _sample_files(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a folder that may be samples, without those that others are made of."""
    known = (*SUFFIXES, *SERIES_SUFFIXES)
    found = chosen_files(folder, pattern)
    files = [path for path in found if (path.suffix.lower() in known or is_described(path)) and path.is_file()]
    parts = {name for path in files for name in _parts(path)}
    return sorted((path for path in files if path.name not in parts), key=lambda path: natural_key(path.name))


def _parts(path: Path) -> list[str]:
    """Return the names of files beside it that a file is made of: arrays of XDMF, pieces of VTK's files, steps."""
    suffix = path.suffix.lower()
    if suffix in SERIES_SUFFIXES:
        return parts_of(path)
    if is_described(path):
        return re.findall(r"\"file\"\s*:\s*\"([^\"]+)\"", _beginning(path))
    if suffix in (".xdmf", ".xmf"):
        return re.findall(r"([^\s/<>\"]+\.(?:h5|hdf5)):", _beginning(path))
    if suffix in (".vtm", ".vtmb") or suffix.startswith(".pv"):
        return re.findall(r"(?:file|Source)=[\"']([^\"'/]+)[\"']", _beginning(path))
    return []


def _beginning(path: Path) -> str:
    with path.open(errors="replace") as file:
        return file.read(_INDEX_BYTES)


def _samples_of(path: Path) -> list[Reference]:
    """Return the samples in a file; a damaged one is one sample, whose reading says what is wrong with it."""
    suffix = path.suffix.lower()
    try:
        if suffix in SERIES_SUFFIXES:
            return steps_of(path)
        if is_temporal(path):
            return steps_within(path)
        if is_described(path):
            return _described(path)
        splits = list_groups(path) if suffix in HDF5_SUFFIXES else {"": [""]}
    except DataError as error:
        return [Reference(path, problem=str(error))]
    return [Reference(path, group) for groups in splits.values() for group in _sorted(groups)]


def _described(path: Path) -> list[Reference]:
    name = path.name.split(".")[0]
    return [Reference(path, case=f"{name}_{number:04d}", within=number) for number in range(count_described(path))]


def _in_file(path: Path) -> dict[str, list[Reference]]:
    if path.suffix.lower() in SERIES_SUFFIXES or is_temporal(path) or is_described(path):
        return {"": _samples_of(path)}
    if path.suffix.lower() not in HDF5_SUFFIXES:
        raise DataError(
            f"data.path={str(path)!r} is one file, which has to be HDF5 ({' or '.join(HDF5_SUFFIXES)}), a series "
            f"({', '.join(SERIES_SUFFIXES)}) or a description of arrays ({DESCRIBED_SUFFIX}); name the "
            "folder of the samples"
        )
    groups = list_groups(path)
    wanted = {"": groups.get("", []), **{split: groups[name] for split, name in _split_names(groups, path).items()}}
    return {name: [Reference(path, group) for group in _sorted(groups)] for name, groups in wanted.items()}


def _sorted(groups: Sequence[str]) -> list[str]:
    return sorted(groups, key=natural_key)
