"""Reading the preprocessed pickles of the Long Range Arena, without letting a file run code.

A file `lra-{name}.{split}.pickle` is a list of dictionaries `input_ids_0`, `label` and, for pairs of documents,
`input_ids_1`, all of one length.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.sequence.dataset import SequenceDataset, TokenSplit, narrow
from data_pipeline.sequence.layout import Layout
from data_pipeline.sequence.unpickle import integer_rows, read_pickle

FOLDER = "LongRangeArena"


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
    labels = np.concatenate(_column(samples, "label", path, single=True))
    return TokenSplit(ids, narrow(labels), real_lengths(ids)), len(keys)


def _stack(samples: Sequence[dict], key: str, path: Path) -> np.ndarray:
    rows = _column(samples, key, path)
    lengths = {len(row) for row in rows}
    if len(lengths) != 1:
        raise DataError(f"{path} has {key} of lengths {min(lengths)} to {max(lengths)}; all must be padded to one")
    if lengths == {0}:
        raise DataError(f"{path} has {key} without tokens; get the file again")
    return np.stack(rows)


def _column(samples: Sequence[dict], key: str, path: Path, single: bool = False) -> list[np.ndarray]:
    """Return the integers that each sample has under `key`."""
    try:
        rows = integer_rows((sample[key] for sample in samples), path.stat().st_size)
        if single and any(len(row) != 1 for row in rows):
            raise ValueError(f"{max(map(len, rows))} integers where one is expected")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} holds a sample without a proper {key!r} ({error}); get the file again") from error
    return rows


def real_lengths(ids: np.ndarray) -> np.ndarray:
    """Return the lengths [S] of rows [S, N] without the zeros at their ends; at least 1."""
    reversed_real = ids[:, ::-1] != 0
    trailing = np.where(reversed_real.any(1), reversed_real.argmax(1), ids.shape[1])
    return np.maximum(ids.shape[1] - trailing, 1).astype(np.int32)
