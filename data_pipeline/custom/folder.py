"""Which samples a user's folder or HDF5 file holds, and which of them train and test."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_pipeline.custom.readers import HDF5_SUFFIXES, SUFFIXES, Reference, list_groups, natural_key
from data_pipeline.custom.series import SERIES_SUFFIX, steps_of
from data_pipeline.errors import DataError
from data_pipeline.files import first_samples, matching

# Files that name their parts are read so far to find them.
_INDEX_BYTES = 1 << 20
# Files that hold several samples.
FILES_OF_MANY = (*HDF5_SUFFIXES, SERIES_SUFFIX)
EXAMPLE = "python -m data_pipeline.custom.example --out=FOLDER"


def find_samples(path: Path, pattern: str = "") -> dict[str, list[Reference]]:
    """Return the samples of a folder or file by split, in natural order of their names; '' is no split.

    `pattern` (`*.vtu`) chooses among the files of a folder. Raises DataError where there are none.
    """
    if path.is_file():
        splits = _in_file(path)
    elif path.is_dir():
        names = _split_names(p.name for p in path.iterdir() if p.is_dir())
        splits = {name: _in_folder(path / name, pattern, cases=bool(name) or not names) for name in ("", *names)}
    else:
        raise DataError(f"data.path={str(path)!r} does not exist; put samples there, or write example ones: {EXAMPLE}")
    splits = {name: references for name, references in splits.items() if references}
    if not splits:
        chosen = f" whose names fit data.files={pattern!r}" if pattern else ""
        raise DataError(
            f"data.path={str(path)!r} holds no samples{chosen}; they are files ending in {', '.join(SUFFIXES)}, there, "
            "in its subfolders train and test, or in a folder for each"
        )
    return splits


def _split_names(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name == "train" or name.startswith("test"))


def _in_folder(folder: Path, pattern: str, cases: bool) -> list[Reference]:
    """Return the samples in a folder; with `cases`, where it holds no files, those of its subfolders, one in each."""
    files = _sample_files(folder, pattern)
    if files or not cases:
        return [reference for path in files for reference in _samples_of(path)]
    folders = sorted((p for p in matching(folder, "*") if p.is_dir()), key=lambda path: natural_key(path.name))
    return [reference for case in folders for reference in _in_case(case, pattern)]


def _in_case(folder: Path, pattern: str) -> list[Reference]:
    files = _sample_files(folder, pattern)
    if len(files) == 1 and files[0].suffix.lower() == SERIES_SUFFIX:
        return [replace(step, case=f"{folder.name}_{step.case}") for step in steps_of(files[0])]
    if len(files) > 1:
        raise DataError(
            f"{folder} holds {len(files)} files of which each may be the sample, "
            f"{', '.join(p.name for p in files[:4])}; choose by data.files, such as data.files=*.vtu"
        )
    return [Reference(path, case=folder.name) for path in files]


def _sample_files(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a folder that may be samples, without those that others are made of."""
    known = (*SUFFIXES, SERIES_SUFFIX)
    files = [p for p in matching(folder, pattern or "*") if p.suffix.lower() in known and p.is_file()]
    parts = {name for path in files for name in _parts(path)}
    return sorted((path for path in files if path.name not in parts), key=lambda path: natural_key(path.name))


def _parts(path: Path) -> list[str]:
    """Return the names of files beside it that a file is made of: arrays of XDMF, pieces of VTK's parallel files."""
    suffix = path.suffix.lower()
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
        if suffix == SERIES_SUFFIX:
            return steps_of(path)
        splits = list_groups(path) if suffix in HDF5_SUFFIXES else {"": [""]}
    except DataError as error:
        return [Reference(path, problem=str(error))]
    return [Reference(path, group) for groups in splits.values() for group in _sorted(groups)]


def _in_file(path: Path) -> dict[str, list[Reference]]:
    if path.suffix.lower() == SERIES_SUFFIX:
        return {"": steps_of(path)}
    if path.suffix.lower() not in HDF5_SUFFIXES:
        raise DataError(
            f"data.path={str(path)!r} is one file, which has to be HDF5 ({' or '.join(HDF5_SUFFIXES)}) or a series "
            f"({SERIES_SUFFIX}); name the folder of the samples"
        )
    splits = list_groups(path)
    wanted = {name: splits[name] for name in ("", *_split_names(splits)) if name in splits}
    return {name: [Reference(path, group) for group in _sorted(groups)] for name, groups in wanted.items()}


def _sorted(groups: Sequence[str]) -> list[str]:
    return sorted(groups, key=natural_key)


def split_samples(
    samples: Mapping[str, Sequence[Reference]], n_train: int, n_test: int, seed: int, path: Path
) -> dict[str, list[Reference]]:
    """Return the samples that train under 'train' and those of each test, 'test' among them.

    Where the files are in no splits, `n_test` samples drawn with `seed` test (a tenth where that is 0) and the others
    train. `n_train` and `n_test` limit how many of each split are taken, in order, where they are not 0.
    """
    if set(samples) == {""}:
        return _drawn(samples[""], n_train, n_test, seed, path)
    if "train" not in samples or "test" not in samples:
        raise DataError(
            f"data.path={str(path)!r} has samples in {_spoken(samples)}; put them into train and test, or all into one "
            "place without these"
        )
    if "" in samples:
        raise DataError(
            f"data.path={str(path)!r} has samples outside of train and test, the first {samples[''][0].path.name}; "
            "move or delete them"
        )
    counts = {"train": ("data.n_train", n_train)}
    chosen = {}
    for name, references in samples.items():
        option, count = counts.get(name, ("data.n_test", n_test))
        if name in ("train", "test"):
            count = count or len(references)
            chosen[name] = list(references)[first_samples(len(references), count, option, f"{path}/{name}")]
        else:
            chosen[name] = list(references)[: count or None]
    return chosen


def _drawn(
    references: Sequence[Reference], n_train: int, n_test: int, seed: int, path: Path
) -> dict[str, list[Reference]]:
    total = len(references)
    n_test = n_test or max(1, round(total / 10))
    n_train = n_train or total - n_test
    if n_train < 1 or n_test < 1 or n_train + n_test > total:
        raise DataError(
            f"data.path={str(path)!r} holds {total} samples, too few for data.n_train={n_train} and "
            f"data.n_test={n_test}; provide more or lower these"
        )
    order = np.random.default_rng(seed).permutation(total)
    chosen = {"test": order[:n_test], "train": order[n_test : n_test + n_train]}
    return {name: [references[row] for row in sorted(rows)] for name, rows in chosen.items()}


def _spoken(samples: Mapping[str, Sequence[Reference]]) -> str:
    return " and ".join(name or "no split" for name in samples)
