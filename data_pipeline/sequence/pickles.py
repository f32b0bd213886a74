"""Reading the preprocessed pickles of the Long Range Arena, without letting a file run code.

A file `lra-{name}.{split}.pickle` is a list of dictionaries `input_ids_0`, `label` and, for pairs of documents,
`input_ids_1`, all of one length.
"""

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.sequence.dataset import SequenceDataset, TokenSplit, narrow
from data_pipeline.sequence.layout import Layout

FOLDER = "LongRangeArena"
# What NumPy arrays and scalars are pickled with, in NumPy 1 and 2; nothing else may be called.
_ALLOWED = {
    (module, name)
    for package in ("numpy.core", "numpy._core")
    for module, name in (
        (f"{package}.multiarray", "_reconstruct"),
        (f"{package}.multiarray", "scalar"),
        (f"{package}.numeric", "_frombuffer"),
    )
} | {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array")
        return super().find_class(module, name)


def read_pickle(path: Path, encoding: str = "ASCII") -> Any:
    """Return the content of a pickle of plain values and NumPy arrays; raises DataError for any other."""
    try:
        with path.open("rb") as file:
            return _ArraysOnly(file, encoding=encoding).load()
    except Exception as error:  # pickle raises many types for damaged files
        raise DataError(f"{path} cannot be read as a pickle of arrays ({error}); get the file again") from error


def pickle_layout(name: str, file: str | None = None, folder: str = FOLDER) -> Layout:
    """Return the layout of the preprocessed files of task `name`, called lra-{file or name}.{split}.pickle."""
    stem = f"lra-{file or name}"

    def read(folder: Path, *, mask_padding: bool = False) -> SequenceDataset:
        return read_lra(folder, name, stem, mask_padding)

    return Layout(folder, (f"{stem}.train.pickle", f"{stem}.dev.pickle"), read)


def read_lra(folder: Path, name: str, stem: str, mask_padding: bool) -> SequenceDataset:
    """Load the splits of a task: `dev` is the validation, and `test` is read too where it is there."""
    found = {"train": folder / f"{stem}.train.pickle", "validation": folder / f"{stem}.dev.pickle"}
    if (folder / f"{stem}.test.pickle").exists():
        found["test"] = folder / f"{stem}.test.pickle"
    splits = {split: _read_split(path) for split, path in found.items()}
    documents = {count for _, count in splits.values()}
    widths = {data.input_ids.shape[1] for data, _ in splits.values()}
    if len(documents) > 1 or len(widths) > 1:
        raise DataError(f"the splits of {stem} in {folder} differ in shape (rows of {sorted(widths)}); get them again")
    data = {split: value for split, (value, _) in splits.items()}
    counted = (data["train"], data["validation"])  # as the original does; a wrong test file is then an error
    return SequenceDataset(
        name=name,
        train=data.pop("train"),
        tests=data,
        vocab_size=1 + max(int(split.input_ids.max()) for split in counted),
        num_labels=max(2, 1 + max(int(split.labels.max()) for split in counted)),
        max_length=widths.pop() // min(documents),
        documents=min(documents),
        pad_id=0 if mask_padding else None,
    )


def _read_split(path: Path) -> tuple[TokenSplit, int]:
    """Return one split and the number of documents per sample."""
    samples = read_pickle(path)
    if not isinstance(samples, list) or not samples or not isinstance(samples[0], dict):
        raise DataError(f"{path} is not a list of samples; check that it is a preprocessed Long Range Arena file")
    keys = ["input_ids_0"] + (["input_ids_1"] if "input_ids_1" in samples[0] else [])
    documents = [_stack(samples, key, path) for key in keys]
    ids = narrow(np.concatenate(documents, axis=1))
    labels = _column(samples, "label", path, lambda value: np.asarray(value, np.int64).reshape(()))
    return TokenSplit(ids, narrow(np.stack(labels)), real_lengths(ids)), len(keys)


def _stack(samples: Sequence[dict], key: str, path: Path) -> np.ndarray:
    rows = _column(samples, key, path, lambda value: np.asarray(value, np.int64).reshape(-1))
    lengths = {len(row) for row in rows}
    if len(lengths) != 1:
        raise DataError(f"{path} has {key} of lengths {min(lengths)} to {max(lengths)}; all must be padded to one")
    return np.stack(rows)


def _column(samples: Sequence[dict], key: str, path: Path, convert: Callable[[Any], np.ndarray]) -> list[np.ndarray]:
    try:
        return [convert(sample[key]) for sample in samples]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} holds a sample without a proper {key!r} ({error}); get the file again") from error


def real_lengths(ids: np.ndarray) -> np.ndarray:
    """Return the lengths [S] of rows [S, N] without the zeros at their ends; at least 1."""
    reversed_real = ids[:, ::-1] != 0
    trailing = np.where(reversed_real.any(1), reversed_real.argmax(1), ids.shape[1])
    return np.maximum(ids.shape[1] - trailing, 1).astype(np.int32)
