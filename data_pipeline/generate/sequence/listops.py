"""ListOps with the distribution of the Long Range Arena (arXiv 2011.04006, section 2.2.1).

A node is an operator with probability 1/4 and a digit else, and at the largest depth always a digit; an operator has 2
to 10 arguments. Expressions with more than 500 and fewer than 2000 tokens are kept (parentheses do not count).
"""

from itertools import islice
from pathlib import Path

import numpy as np

from data_pipeline.generate.chunks import Samples
from data_pipeline.generate.generator import Generator
from data_pipeline.sequence.listops import FOLDER, IDS, SPLITS, SYMBOLS, evaluate

MAX_DEPTH, MAX_ARGUMENTS = 10, 10
MIN_LENGTH, MAX_LENGTH = 500, 2000
OPERATOR_PROBABILITY = 0.25
_OPERATORS = [IDS[symbol] for symbol in ("[MIN", "[MAX", "[MED", "[SM")]
_CLOSE, _ZERO = IDS["]"], IDS["0"]


def expression(rng: np.random.Generator) -> list[int]:
    """Return the tokens of a random expression of the right length."""
    while True:
        tokens = _grow(_Dice(rng))
        if MIN_LENGTH < len(tokens) < MAX_LENGTH:
            return tokens


class _Dice:
    """Uniform numbers in [0, 1), drawn in blocks, for one at a time is slow."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._values: list[float] = []

    def roll(self) -> float:
        if not self._values:
            self._values = self._rng.random(512).tolist()
        return self._values.pop()

    def below(self, count: int) -> int:
        return int(self.roll() * count)


def _grow(dice: _Dice) -> list[int]:
    """Return the tokens of a random tree in depth-first order; cut off once it is too long to be kept."""
    tokens: list[int] = []
    # Each entry is the number of arguments that an open operator still waits for.
    open_arguments: list[int] = []
    while len(tokens) < MAX_LENGTH:
        if len(open_arguments) + 1 < MAX_DEPTH and dice.roll() < OPERATOR_PROBABILITY:
            open_arguments.append(2 + dice.below(MAX_ARGUMENTS - 1))
            tokens.append(_OPERATORS[dice.below(len(_OPERATORS))])
            continue
        tokens.append(_ZERO + dice.below(10))
        while open_arguments:
            open_arguments[-1] -= 1
            if open_arguments[-1]:
                break
            open_arguments.pop()
            tokens.append(_CLOSE)
        if not open_arguments:
            break
    return tokens


def to_source(tokens: list[int]) -> str:
    """Return the expression as the public files write it: binarised by parentheses, one before every argument."""
    words: list[str] = []
    # The place of each open operator's first parenthesis, and how many it needs.
    starts: list[list[int]] = []
    for token in tokens:
        symbol = SYMBOLS[token - 1]
        if symbol.startswith("["):
            starts.append([len(words), 0])
            words.append(symbol)
            continue
        if symbol == "]":
            place, arguments = starts.pop()
            words[place] = "( " * (arguments + 1) + words[place]
            words.append("] )")
        else:
            words.append(symbol)
        if starts:
            starts[-1][1] += 1
            words[-1] += " )"
    return " ".join(words)


def split_sizes(total: int) -> dict[str, int]:
    """Return the sizes of the splits: 96 000, 2000 and 2000 of 100 000."""
    held_out = min(2000, total // 10)
    return {"train": total - 2 * held_out, "validation": held_out, "test": held_out}


def _solve(seed: int, indices: range) -> dict[str, np.ndarray]:
    expressions = [expression(np.random.default_rng([seed, index])) for index in indices]
    ids = np.zeros((len(indices), MAX_LENGTH), np.uint8)
    for row, tokens in zip(ids, expressions, strict=True):
        row[: len(tokens)] = tokens
    return {"input_ids": ids, "labels": np.array([evaluate(tokens) for tokens in expressions], np.int8)}


def _export(samples: Samples, folder: Path) -> None:
    rows = samples.rows()
    for split, size in split_sizes(samples.num).items():
        with (folder / SPLITS[split]).open("w", encoding="utf-8") as file:
            file.write("Source\tTarget\n")
            for row in islice(rows, size):
                tokens = row["input_ids"]
                file.write(f"{to_source(tokens[tokens > 0].tolist())}\t{row['labels']}\n")


GENERATOR = Generator(
    name="listops",
    folder=FOLDER,
    files=tuple(SPLITS.values()),
    num=100_000,
    chunk=200,
    solver="random trees of depth at most 10 with 2 to 10 arguments and 500 to 2000 tokens",
    version=1,
    details={"splits": "the last fiftieth is the test, the one before it the validation; a tenth each below 20 000"},
    solve=_solve,
    export=_export,
)
