"""Which samples a user's folder or HDF5 file holds, and which of them train and test."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from data_pipeline.custom.readers import HDF5_SUFFIXES, SUFFIXES, Reference, list_groups, natural_key
from data_pipeline.errors import DataError
from data_pipeline.files import first_samples, matching

EXAMPLE = "python -m data_pipeline.custom.example --out=FOLDER"


def find_samples(path: Path) -> dict[str, list[Reference]]:
    """Return the samples of a folder or file by split, in natural order of their names; '' is no split.

    Raises DataError where there are none.
    """
    if path.is_file():
        splits = _in_file(path)
    elif path.is_dir():
        splits = {name: _in_folder(path / name) for name in ("", *_split_names(p.name for p in path.iterdir()))}
    else:
        raise DataError(f"data.path={str(path)!r} does not exist; put samples there, or write example ones: {EXAMPLE}")
    splits = {name: references for name, references in splits.items() if references}
    if not splits:
        raise DataError(
            f"data.path={str(path)!r} holds no samples; they are files ending in {', '.join(SUFFIXES)}, there or in "
            "its subfolders train and test"
        )
    return splits


def _split_names(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name == "train" or name.startswith("test"))


def _in_folder(folder: Path) -> list[Reference]:
    if not folder.is_dir():
        return []
    files = [p for p in matching(folder, "*") if p.suffix.lower() in SUFFIXES and p.is_file()]
    references = []
    for path in sorted(files, key=lambda path: natural_key(path.name)):
        references += [Reference(path, group) for groups in _groups(path).values() for group in _sorted(groups)]
    return references


def _groups(path: Path) -> dict[str, list[str]]:
    """Return the samples of a file by split; a damaged file is one, so that its reading says what is wrong with it."""
    try:
        return list_groups(path) if path.suffix.lower() in HDF5_SUFFIXES else {"": [""]}
    except DataError:
        return {"": [""]}


def _in_file(path: Path) -> dict[str, list[Reference]]:
    if path.suffix.lower() not in HDF5_SUFFIXES:
        raise DataError(
            f"data.path={str(path)!r} is one file, which has to be HDF5 ({' or '.join(HDF5_SUFFIXES)}); name the "
            "folder of the samples"
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
