"""Which samples of a user's data train, validate and test: by their folders, by shares, or by lists of their names."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_pipeline.custom.readers import Reference
from data_pipeline.custom.series import joined
from data_pipeline.errors import DataError
from data_pipeline.files import first_samples, read_json

References = Sequence[Reference]
_SPLITS = ("train", "val", "test")


def split_samples(
    samples: Mapping[str, References], n_train: int, n_val: int, n_test: int, split: str, seed: int, path: Path
) -> dict[str, list[Reference]]:
    """Return the samples that train under 'train', those that validate under 'val', and each test, 'test' among them.

    `split` says how samples in no folders of splits are divided: shares of all, such as 0.8,0.1,0.1 (of two the rest
    tests), drawn with `seed`, or a JSON file of lists of names; with '' `n_test` test (a tenth where that is 0) and
    `n_val` validate. Samples in folders are those of their folder; where there are none to validate, `n_val` are drawn
    of those that train. Counts limit how many of each are taken, in order, where they are not 0. Raises DataError.
    """
    if split.lower().endswith(".json"):
        samples = _listed([one for references in samples.values() for one in references], Path(split))
    elif split:
        _check_undivided(samples, f"data.split={split!r} divides them anew; leave it out", path)
        samples = _shared(samples[""], _shares(split), seed, path)
    elif set(samples) == {""}:
        return _drawn(samples[""], n_train, n_val, n_test, seed, path)
    _check_complete(samples, path)
    if n_val and "val" not in samples:
        samples = _with_validation(samples, n_val, seed, path)
    counts = {"train": ("data.n_train", n_train), "val": ("data.n_val", n_val)}
    chosen = {}
    for name, references in samples.items():
        option, count = counts.get(name, ("data.n_test", n_test))
        if name in _SPLITS:
            count = count or len(references)
            chosen[name] = list(references)[first_samples(len(references), count, option, f"{path}/{name}")]
        else:
            chosen[name] = list(references)[: count or None]
    return chosen


def split_series(
    samples: Mapping[str, References], n_train: int, n_val: int, n_test: int, split: str, seed: int, path: Path
) -> dict[str, list[list[Reference]]]:
    """Return the series of every split, each the list of its steps: `split_samples` of cases, counted as such."""
    series = {name: joined(references) for name, references in samples.items()}
    heads = {name: [replace(steps[0], case=case) for case, steps in found.items()] for name, found in series.items()}
    steps_of = {head: steps for name in heads for head, steps in zip(heads[name], series[name].values(), strict=True)}
    chosen = split_samples(heads, n_train, n_val, n_test, split, seed, path)
    return {name: [steps_of[head] for head in found] for name, found in chosen.items()}


def _check_undivided(samples: Mapping[str, References], remedy: str, path: Path) -> None:
    if set(samples) != {""}:
        raise DataError(f"data.path={str(path)!r} has samples in {_spoken(samples)}, but {remedy}, or move the samples")


def _check_complete(samples: Mapping[str, References], path: Path) -> None:
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


def _drawn(
    references: References, n_train: int, n_val: int, n_test: int, seed: int, path: Path
) -> dict[str, list[Reference]]:
    total = len(references)
    tests = n_test or max(1, round(total / 10))
    trained = n_train or total - tests - n_val
    if trained < 1 or trained + n_val + tests > total:
        damaged = next((one.problem for one in references if one.problem), "")
        if damaged:  # a file of many samples, none of which could be found
            raise DataError(damaged)
        wanted = [f"data.n_train={n_train}" if n_train else "one that trains"]
        wanted += [f"data.n_test={n_test}" if n_test else "one that tests"]
        wanted += [f"data.n_val={n_val}"] if n_val else []
        raise DataError(
            f"data.path={str(path)!r} holds {total} sample{'s' * (total != 1)}, too few for {' and '.join(wanted)}; "
            "provide more or ask for fewer"
        )
    return _divided(references, {"test": tests, "train": trained, "val": n_val}, seed)


def _divided(references: References, counts: Mapping[str, int], seed: int) -> dict[str, list[Reference]]:
    """Return so many samples of each split, drawn one split after the other, in their own order."""
    order, chosen, first = np.random.default_rng(seed).permutation(len(references)), {}, 0
    for name, count in counts.items():
        rows, first = sorted(order[first : first + count]), first + count
        if count:
            chosen[name] = [references[row] for row in rows]
    return chosen


def _shares(text: str) -> dict[str, float]:
    """Return the shares of train, val and test that a text names; raises DataError."""
    parts = text.split(",")
    numeric = all(re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*", part) for part in parts)
    values = [float(part) for part in parts] if numeric else []
    if len(values) not in (2, 3) or not 0.999 <= sum(values) <= 1.001 or not values[0] or not values[-1]:
        raise DataError(
            f"data.split={text!r} is not understood; write the shares of train, val and test, which sum to 1, such as "
            "0.8,0.1,0.1 (of two: train,test), or the name of a JSON file with lists of sample names"
        )
    return dict(zip(_SPLITS if len(values) == 3 else ("train", "test"), values, strict=True))


def _shared(references: References, shares: Mapping[str, float], seed: int, path: Path) -> dict[str, list[Reference]]:
    total = len(references)
    others = {name: max(1, round(total * share)) if share else 0 for name, share in shares.items() if name != "train"}
    left = total - sum(others.values())
    if left < 1:
        raise DataError(
            f"data.path={str(path)!r} holds {total} samples, too few for the shares in data.split; provide more"
        )
    return _divided(references, {"test": others["test"], "train": left, "val": others.get("val", 0)}, seed)


def _with_validation(
    samples: Mapping[str, References], n_val: int, seed: int, path: Path
) -> dict[str, Sequence[Reference]]:
    total = len(samples["train"])
    if n_val >= total:
        raise DataError(
            f"data.n_val={n_val}, but {path}/train holds {total} samples, of which some must train; lower it"
        )
    return {**samples, **_divided(samples["train"], {"val": n_val, "train": total - n_val}, seed)}


def _listed(references: References, path: Path) -> dict[str, list[Reference]]:
    """Return the samples that a JSON file names, {"train": [...], "test": [...]}; raises DataError."""
    try:
        lists = read_json(path)
    except ValueError as error:
        raise DataError(f"{error}; data.split names a JSON file with lists of sample names") from error
    fine = isinstance(lists, dict) and all(
        isinstance(names, list) and names and all(isinstance(name, str) for name in names) for names in lists.values()
    )
    wrong = [] if not fine else [name for name in lists if name not in _SPLITS and not name.startswith("test")]
    if not fine or wrong:
        raise DataError(
            f"{path} is no division into splits{f', for it has {wrong[0]!r}' if wrong else ''}; write "
            '{"train": ["a", "b"], "val": ["c"], "test": ["d"]} with names of samples'
        )
    known: dict[str, list[Reference]] = {}
    for one in references:
        for name in {one.name, one.path.name}:
            known.setdefault(name, []).append(one)
    chosen, taken = {}, {}
    for split, names in lists.items():
        chosen[split] = [_named(name, known, path) for name in names]
        for name, one in zip(names, chosen[split], strict=True):
            if one in taken:
                raise DataError(f"{path} has {name!r} in {taken[one]} and in {split}; name every sample once")
            taken[one] = split
    return chosen


def _named(name: str, known: Mapping[str, list[Reference]], path: Path) -> Reference:
    found = known.get(name, [])
    if len(found) != 1:
        problem = f"of which there are {len(found)}" if found else "which is none of the samples"
        raise DataError(f"{path} names {name!r}, {problem}; the samples are {', '.join(list(known)[:4])} and so on")
    return found[0]


def _spoken(samples: Mapping[str, References]) -> str:
    return " and ".join(name or "no split" for name in samples)
