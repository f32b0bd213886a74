"""Multi-query associative recall (arXiv 2312.04927): pairs of keys and values, then keys whose values are asked for."""

import hashlib
from dataclasses import dataclass

import numpy as np

from data_pipeline.dataset import Source
from data_pipeline.errors import DataError

IGNORED = -1
# Distances of the queries follow a power law: most of the queries come soon after the pairs.
_POWER = 0.01
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Recall:
    """Rows of token numbers `input_ids` [S, N], and `labels` [S, N]: the value at every query, -1 elsewhere."""

    train: Arrays
    test: Arrays
    vocab_size: int
    pairs: int
    seed: int

    @property
    def source(self) -> Source:
        """How the rows were made."""
        detail = {"solver": "multi-query associative recall", "solver_version": 1, "seed": self.seed}
        return Source("generated", "memory", {**detail, "pairs": self.pairs})

    def fingerprint(self) -> str:
        """Return a hash of all rows."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            for array in split.values():
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]


def make_recall(pairs: int, length: int, vocab_size: int, train: int, test: int, seed: int) -> Recall:
    """Return `train` and `test` rows of `length` tokens with `pairs` different keys, each asked for once.

    Keys are of the lower half of the vocabulary without 0, which fills the rows, values of the upper half. A row begins
    with the pairs, and query j stands at an even place after them. Raises DataError where pairs and queries do not
    fit.
    """
    keys = vocab_size // 2 - 1
    if 4 * pairs > length or pairs > keys:
        raise DataError(
            f"data.pairs={pairs} needs rows of {4 * pairs} tokens and as many keys, and data.length={length} and "
            f"data.vocab_size={vocab_size} give {length} and {keys}; raise them"
        )
    parts = [_rows(np.random.default_rng([seed, part]), count, pairs, length, vocab_size)
             for part, count in enumerate((train, test))]  # fmt: skip
    return Recall(*parts, vocab_size, pairs, seed)


def _rows(rng: np.random.Generator, count: int, pairs: int, length: int, vocab_size: int) -> Arrays:
    half, places = vocab_size // 2, (length - 2 * pairs) // 2
    # The first of a random order are drawn without replacement; with weights by the trick of exponential times.
    keys = 1 + _draw(rng, count, pairs, np.ones(half - 1))
    values = half + rng.integers(0, vocab_size - half, (count, pairs))
    gaps = _draw(rng, count, pairs, _POWER * np.arange(1, places + 1) ** (_POWER - 1))
    kind = np.uint16 if vocab_size <= 2**16 else np.int32
    ids, labels = np.zeros((count, length), kind), np.full((count, length), IGNORED, np.int32)
    ids[:, 0 : 2 * pairs : 2], ids[:, 1 : 2 * pairs : 2] = keys, values
    rows, queries = np.arange(count)[:, None], 2 * pairs + 2 * gaps
    ids[rows, queries], labels[rows, queries] = keys, values
    return {"input_ids": ids, "labels": labels}


def _draw(rng: np.random.Generator, count: int, number: int, weights: np.ndarray) -> np.ndarray:
    """Return `number` different indices for each row, drawn one after another in proportion to their weights."""
    drawn = np.empty((count, number), np.int64)
    step = max(1, 2**24 // len(weights))
    for start in range(0, count, step):
        times = rng.exponential(size=(min(step, count - start), len(weights))) / weights
        chosen = np.argpartition(times, number - 1, axis=1)[:, :number]
        order = np.argsort(np.take_along_axis(times, chosen, axis=1), axis=1)
        drawn[start : start + step] = np.take_along_axis(chosen, order, axis=1)
    return drawn
