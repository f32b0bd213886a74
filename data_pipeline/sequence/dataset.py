"""What every loader of token sequences returns: splits of padded token ids with labels, and the task's metadata."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int

from data_pipeline.dataset import Source
from data_pipeline.errors import DataError

IGNORE_INDEX = -100
_MOST_LABELS = 10_000  # evaluations count how often each is taken for each
_MOST_TOKENS = 2**20  # a model has a row of parameters for each


@dataclass(frozen=True)
class TokenSplit:
    """Samples of one split: token ids [S, N], labels [S] or, one per token, [S, N], and the real lengths [S].

    Tokens from a sample's length on are padding. Integers of any width: loaders take the narrowest that fits.
    """

    input_ids: Int[np.ndarray, "S N"]
    labels: Int[np.ndarray, " S"] | Int[np.ndarray, "S N"]
    lengths: Int[np.ndarray, " S"]

    def __post_init__(self) -> None:
        samples, tokens = self.input_ids.shape
        if self.labels.shape not in ((samples,), (samples, tokens)):
            raise DataError(
                f"labels have shape {self.labels.shape} where input_ids have {self.input_ids.shape}; "
                f"give one label per sample, ({samples},), or one per token"
            )
        if self.lengths.shape != (samples,):
            raise DataError(f"lengths have shape {self.lengths.shape} but there are {samples} samples; give one each")

    def __len__(self) -> int:
        return self.input_ids.shape[0]

    def first(self, count: int) -> "TokenSplit":
        """Return the first `count` samples."""
        return TokenSplit(self.input_ids[:count], self.labels[:count], self.lengths[:count])


@dataclass(frozen=True)
class SequenceDataset:
    """A classification task on token sequences.

    `train` trains; `tests` holds "validation", "test" or both, and the former, where there is one, ranks checkpoints.
    `vocab_size` counts the ordinary tokens. With a `pad_id`, padded tokens hold it and are masked (it may equal
    `vocab_size`); without, padding is an ordinary token. `max_length` is that of one document, of which a sample
    holds `documents`, one after the other. Labels `IGNORE_INDEX` count nowhere.
    """

    name: str
    train: TokenSplit
    tests: dict[str, TokenSplit]
    vocab_size: int
    num_labels: int
    max_length: int
    pad_id: int | None = None
    documents: int = 1
    label_names: tuple[str, ...] = ()
    source: Source = field(default_factory=lambda: Source("public files", ""))

    def __post_init__(self) -> None:
        if self.num_labels < 2:
            raise DataError(f"{self.name} has num_labels={self.num_labels}, but a classification needs at least 2")
        for what, count, most in (
            ("label", self.num_labels, _MOST_LABELS),
            ("token", self.vocab_size, _MOST_TOKENS),
        ):
            if count > most:
                raise DataError(
                    f"{self.name} holds {what} {count - 1}, but a model has at most {most} {what}s; check that it is "
                    "the right file, or number them from 0"
                )
        for name, split in {"train": self.train, **self.tests}.items():
            self._check(name, split)

    def _check(self, name: str, split: TokenSplit) -> None:
        where = f"the {name} split of {self.name}"
        if not len(split):
            raise DataError(f"{where} holds no samples; check the files or raise the number of samples")
        width = self.documents * self.max_length
        if split.input_ids.shape[1] != width:
            raise DataError(f"{where} has rows of {split.input_ids.shape[1]} tokens where {width} are expected")
        largest = self.vocab_size - 1 if self.pad_id is None else max(self.vocab_size - 1, self.pad_id)
        _check_range(where, "token", split.input_ids, 0, largest)
        _check_range(where, "label", split.labels[split.labels != IGNORE_INDEX], 0, self.num_labels - 1)

    @property
    def token_level(self) -> bool:
        """Whether there is a label for every token."""
        return self.train.labels.ndim == 2

    @property
    def binary(self) -> bool:
        """Whether there are two classes, for which models give one logit."""
        return self.num_labels == 2

    @property
    def num_logits(self) -> int:
        """The number of outputs of a model."""
        return 1 if self.binary else self.num_labels

    @property
    def selection(self) -> str:
        """The split that is evaluated while training and ranks checkpoints."""
        return "validation" if "validation" in self.tests else next(iter(self.tests))

    def fingerprint(self) -> str:
        """Return a hash of all arrays, by which an evaluation notices that the data changed."""
        digest = hashlib.sha256()
        for split in (self.train, *self.tests.values()):
            for array in (split.input_ids, split.labels):
                digest.update(f"{array.shape}{array.dtype}".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]


def _check_range(where: str, what: str, values: np.ndarray, low: int, high: int) -> None:
    if values.size and (values.min() < low or values.max() > high):
        bad = int(values.min()) if values.min() < low else int(values.max())
        raise DataError(f"{where} holds {what} {bad}, outside {low} to {high}; check that it is the right file")


def pack(rows: Sequence[np.ndarray], width: int, fill: int) -> np.ndarray:
    """Return rows of different lengths as one array [S, width], filled up on the right, in the narrowest integer."""
    largest = max([fill, *(int(row.max()) for row in rows if len(row))])
    smallest = min([fill, *(int(row.min()) for row in rows if len(row))])
    packed = np.full((len(rows), width), fill, np.promote_types(*map(np.min_scalar_type, (smallest, largest))))
    for packed_row, row in zip(packed, rows, strict=True):
        packed_row[: len(row)] = row
    return packed


def narrow(array: np.ndarray) -> np.ndarray:
    """Return `array` in the narrowest integer type that holds its values."""
    if not array.size:
        return array.astype(np.int8)
    kinds = (np.min_scalar_type(int(array.min())), np.min_scalar_type(int(array.max())))
    return array.astype(np.promote_types(*kinds), copy=False)
