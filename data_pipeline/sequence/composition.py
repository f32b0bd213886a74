"""Loaders of the generated tasks: function composition, two relation compositions, match3, multi-token association.

Files: `data.h5` of `data_pipeline.generate`, or the original's cache `Strassen/{task}.pkl`, a pickled pair of lists.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.sequence import match3, multi_token, relations
from data_pipeline.sequence.cache import read_arrays
from data_pipeline.sequence.dataset import IGNORE_INDEX, SequenceDataset, TokenSplit, narrow, pack
from data_pipeline.sequence.layout import Layout, SequenceTask
from data_pipeline.sequence.recipe import FULL_PRECISION, Settings, size, training
from data_pipeline.sequence.unpickle import integer_rows, read_pickle
from runtime.options import declare, option

FOLDER = "composition"
Rows = Sequence[np.ndarray]
VALIDATION_SHARE = 0.1
MTA_VALIDATION = 1000


def build(
    name: str, inputs: Rows, labels: Rows, held_out: tuple[np.ndarray, np.ndarray] | None = None
) -> SequenceDataset:
    """Return the data set of samples of different lengths; the last tenth validates unless `held_out` says otherwise.

    The padding token is the first that no sample uses. `held_out` gives the rows of training and of validation. Raises
    DataError for samples that do not belong together.
    """
    _check_samples(name, inputs, labels)
    vocab_size = 1 + max(int(row.max()) for row in inputs)
    max_length = max(map(len, inputs))
    token_level = any(len(row) != 1 for row in labels)
    targets = pack(labels, max_length, IGNORE_INDEX) if token_level else narrow(np.concatenate(labels))
    whole = TokenSplit(pack(inputs, max_length, vocab_size), targets, np.asarray([*map(len, inputs)], np.int32))
    rows = np.arange(len(inputs))
    first = len(rows) - int(len(rows) * VALIDATION_SHARE)
    train, validation = (rows[:first], rows[first:]) if held_out is None else held_out
    return SequenceDataset(
        name=name,
        train=_rows(whole, train),
        tests={"validation": _rows(whole, validation)},
        vocab_size=vocab_size,
        num_labels=2,
        max_length=max_length,
        pad_id=vocab_size,
    )


def _check_samples(name: str, inputs: Rows, labels: Rows) -> None:
    if not inputs or len(inputs) != len(labels):
        raise DataError(f"{name} has {len(inputs)} samples and {len(labels)} rows of labels; generate it again")
    allowed = ({len(row), 1} if len(row) else set() for row in inputs)
    bad = next((i for i, (sizes, row) in enumerate(zip(allowed, labels, strict=True)) if len(row) not in sizes), None)
    if bad is not None:
        raise DataError(
            f"{name}: sample {bad} has {len(inputs[bad])} tokens and {len(labels[bad])} labels; one label, or one per "
            "token, is expected; generate it again"
        )


def _rows(split: TokenSplit, rows: np.ndarray) -> TokenSplit:
    return TokenSplit(split.input_ids[rows], split.labels[rows], split.lengths[rows])


def unpad(padded: np.ndarray, lengths: Sequence[int]) -> list[np.ndarray]:
    """Return the rows of [S, N] at their own lengths, as signed integers."""
    return [row[:length].astype(np.int64) for row, length in zip(padded, lengths, strict=True)]


def _read_rows(folder: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    names = ("input_ids", "labels", "lengths", "label_lengths")
    arrays = read_arrays(folder / "data.h5", names)
    return unpad(arrays["input_ids"], arrays["lengths"]), unpad(arrays["labels"], arrays["label_lengths"])


def _plain(name: str) -> Callable[..., SequenceDataset]:
    def read(folder: Path) -> SequenceDataset:
        return build(name, *_read_rows(folder))

    return read


def _read_quotient(folder: Path, *, encode_colors: bool) -> SequenceDataset:
    inputs, labels = _read_rows(folder)
    if encode_colors:
        colors = read_arrays(folder / "data.h5", ("colors",))["colors"]  # of 6 to 8 nodes, in rows of 8
        nodes = [round(len(row) ** 0.5) for row in inputs]
        inputs = [relations.encode_colors(*row) for row in zip(inputs, unpad(colors, nodes), strict=True)]
    return build("quotient_binary_relation_composition", inputs, labels)


def _read_match3(folder: Path, *, split: str) -> SequenceDataset:
    inputs, labels = _read_rows(folder)
    if split == "reference":
        return build("match3", inputs, labels)
    bases = read_arrays(folder / "data.h5", ("base",))["base"]
    return build("match3", inputs, labels, match3.split_by_base(bases, VALIDATION_SHARE, seed=0))


def _read_multi_token(folder: Path) -> SequenceDataset:
    """Load the training samples and draw the validation samples, of which there are always the same thousand."""
    arrays = read_arrays(folder / "data.h5", ("input_ids", "labels", "seed"))
    stream = multi_token.multi_token_association(int(arrays["seed"][0]) + 1)
    pairs = [next(stream) for _ in range(MTA_VALIDATION)]
    validation = np.stack([ids for ids, _ in pairs]), np.array([label for _, label in pairs], np.int8)
    length = multi_token.sequence_length()
    splits = [
        TokenSplit(ids, labels, np.full(len(ids), length, np.int32))
        for ids, labels in ((arrays["input_ids"], arrays["labels"]), validation)
    ]
    return SequenceDataset(
        name="mta-toy",
        train=splits[0],
        tests={"validation": splits[1]},
        vocab_size=len(multi_token.vocabulary()),
        num_labels=50,
        max_length=length,
    )


def _read_pickle(name: str) -> Callable[[Path], SequenceDataset]:
    def read(folder: Path) -> SequenceDataset:
        path = folder / f"{name}.pkl"
        content = read_pickle(path)
        try:
            inputs, labels = (integer_rows(part, path.stat().st_size) for part in content)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{path} is not a pair of lists of tokens and labels ({error}); generate it again"
            ) from error
        return build(name, inputs, labels)

    return read


_SMALL = {**FULL_PRECISION, **size(1, 16, 1), "schedule.min_learning_rate": 1e-6}
# Sizes of FLARE where the original never ran it, for one head and 16 channels leave it no heads.
_FLARE = {
    "flare": {"model.num_latents": 16, "model.attn_scale": "sqrt"},
    "flarepp": {"model.num_latents": 16},
}
_RECIPES: dict[str, dict[str, Settings]] = {
    "mta-toy": {"all": {**training(32, 5e-4, 1e-5, steps=10_000), **size(4, 128, 8)}},
    "function_composition": {
        "all": {**training(2500, 1e-3, 1e-5, epochs=1000), **_SMALL, "model.pool": "cls"},
        **_FLARE,
    },
    "binary_relation_composition": {"all": {**training(2500, 1e-3, 1e-5, epochs=200), **_SMALL}, **_FLARE},
    "quotient_binary_relation_composition": {"all": {**training(2000, 1e-3, 1e-5, epochs=3000), **_SMALL}, **_FLARE},
    "match3": {
        "all": {**training(2500, 1e-3, 1e-5, epochs=500), **_SMALL, **size(1, 128, 1)},
        "flare": {"model.num_latents": 64, "model.attn_scale": "sqrt"},
    },
}


def _task(
    name: str,
    read: Callable[..., SequenceDataset],
    **options: Any,
) -> SequenceTask:
    generated = Layout(f"{FOLDER}/{name}", ("data.h5",), read)
    layouts = (generated, Layout("Strassen", (f"{name}.pkl",), _read_pickle(name), {"split": "reference"}))
    return SequenceTask(
        name=name,
        layouts=layouts[:1] if name == "mta-toy" else layouts,
        download="",
        generator=name,
        generated=generated,
        token_level=name not in ("mta-toy", "function_composition"),
        masked=name != "mta-toy",
        short=name != "mta-toy",
        options=declare(**options),
        recipe=_RECIPES[name],
    )


TASKS = (
    _task("mta-toy", _read_multi_token),
    _task("function_composition", _plain("function_composition")),
    _task("binary_relation_composition", _plain("binary_relation_composition")),
    _task(
        "quotient_binary_relation_composition",
        _read_quotient,
        encode_colors=option(False, help="colours as tokens of their own"),
    ),
    _task(
        "match3",
        _read_match3,
        split=option("base", help="how the samples are divided", choices=("base", "reference")),
    ),
)
