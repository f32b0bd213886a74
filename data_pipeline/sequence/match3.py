"""Match3: token i is marked if some x_i + x_j + x_k = 0 modulo M, repeats allowed; drawn exactly as in the original.

Base sequences are drawn until bins by the share of marked tokens are filled or exhausted; permutations of their
members fill the rest. The original recomputes all triples after every token; sets of pair sums give the same result
in seconds. Source: tasks of the Strassen attention paper (arXiv 2501.19215, section 6).
"""

import random
from collections.abc import Iterable

import numpy as np
from jaxtyping import Int

from data_pipeline.errors import DataError

MAX_BASE = 5000
Match = tuple[Int[np.ndarray, " N"], Int[np.ndarray, " N"], int]


def match3(
    num: int,
    seed: int = 42,
    *,
    min_length: int = 30,
    max_length: int = 35,
    modulus: int = 37,
    bins: int = 4,
) -> list[Match]:
    """Return `num` samples (tokens, labels, number of the base sequence they permute), ordered by bin."""
    choose, draw = random.Random(seed), np.random.RandomState(seed)
    targets = [num // bins + (index < num % bins) for index in range(bins)]
    filled: list[list[Match]] = [[] for _ in range(bins)]
    for base in range(min(MAX_BASE, num)):
        length = choose.choice(range(min_length, max_length + 1))
        wanted = length * choose.choice(range(1, 40)) // 100
        tokens = _sequence(length, wanted, modulus, choose, draw)
        labels = matches(tokens, modulus)
        percentage = 100 * int(labels.sum()) // length
        index = min(int(percentage / (100 / bins)), bins - 1)
        if len(filled[index]) < targets[index]:
            filled[index].append((tokens, labels, base))
    for index, (members, target) in enumerate(zip(filled, targets, strict=True)):
        _augment(members, target, index, choose, draw)
    return [sample for members in filled for sample in members]


def matches(tokens: Int[np.ndarray, " N"], modulus: int) -> Int[np.ndarray, " N"]:
    """Return 1 for every token that is part of a matching triple."""
    present = np.zeros(modulus, bool)
    present[tokens] = True
    sums = np.zeros(modulus, bool)
    values = np.flatnonzero(present)
    sums[(values[:, None] + values[None]) % modulus] = True
    return sums[-tokens % modulus].astype(np.int64)


def _augment(members: list[Match], target: int, index: int, choose: random.Random, draw: np.random.RandomState) -> None:
    """Fill a bin with permutations of its members, earlier permutations included."""
    while len(members) < target:
        if not members:
            raise DataError(f"match3: no base sequence fell into bin {index}; generate more samples or use fewer bins")
        tokens, labels, base = choose.choice(members)
        order = draw.permutation(len(tokens))
        members.append((tokens[order], labels[order], base))


class _Prefix:
    """A growing sequence with the set of its values and of the sums of two of them, modulo M."""

    def __init__(self, modulus: int) -> None:
        self.modulus = modulus
        self.tokens: list[int] = []
        self._distinct: set[int] = set()
        self._sums: set[int] = set()

    def append(self, token: int) -> None:
        self.tokens.append(token)
        if token not in self._distinct:
            self._distinct.add(token)
            self._sums |= {(token + other) % self.modulus for other in self._distinct}

    def candidates(self) -> tuple[list[int], list[int]]:
        """Return the values that would complete a triple and the others, both in order."""
        completing = [c for c in range(1, self.modulus) if -c % self.modulus in self._sums or 3 * c % self.modulus == 0]
        chosen = set(completing)
        return completing, [c for c in range(1, self.modulus) if c not in chosen]

    def marked(self) -> int:
        return sum(-token % self.modulus in self._sums for token in self.tokens)


def _sequence(
    length: int, wanted: int, modulus: int, choose: random.Random, draw: np.random.RandomState
) -> Int[np.ndarray, " N"]:
    """Return a sequence with about `wanted` marked tokens, shuffled."""
    favoured = set(choose.choices(range(2, length), k=wanted))
    prefix = _Prefix(modulus)
    prefix.append(choose.choice(range(1, modulus)))
    for position in range(1, length):
        if prefix.marked() >= wanted:
            _fill(prefix, length, choose)
            break
        completing, others = prefix.candidates()
        if completing and (position in favoured or not others):
            prefix.append(choose.choice(completing))
        else:
            prefix.append(choose.choice(others))
    return np.asarray(prefix.tokens)[draw.permutation(length)]


def _fill(prefix: _Prefix, length: int, choose: random.Random) -> None:
    """Append values that complete no triple, where there are any."""
    while len(prefix.tokens) < length:
        completing, others = prefix.candidates()
        prefix.append(choose.choice(others or completing))


def split_by_base(bases: Iterable[int], share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the training and of the held-out samples, with no base sequence in both, in random order."""
    bases = np.asarray(list(bases))
    draw = np.random.default_rng(seed)
    order = draw.permutation(np.unique(bases))
    sizes = np.array([np.count_nonzero(bases == base) for base in order])
    held_out = order[: int(np.searchsorted(np.cumsum(sizes), share * len(bases))) + 1]
    is_held_out = np.isin(bases, held_out)
    return draw.permutation(np.flatnonzero(~is_held_out)), draw.permutation(np.flatnonzero(is_held_out))
