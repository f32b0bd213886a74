"""Multi-token association: which of many blocks of letters holds all letters of the query?

A sample is the query, '#', and the blocks joined by '.'; the label is the number of the block. Drawn exactly as the
original draws it, sample after sample, with Python's generator.
"""

import random
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from data_pipeline.errors import DataError

ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def vocabulary(alphabet_size: int = 26) -> dict[str, int]:
    """Return the token of every symbol: the letters, '.' and '#'."""
    return {symbol: index for index, symbol in enumerate(ALPHABET[:alphabet_size] + ".#")}


def sequence_length(num_blocks: int = 50, block_length: int = 5, query_length: int = 2) -> int:
    """Return the number of tokens of a sample: 302 by default."""
    return query_length + 1 + num_blocks * block_length + num_blocks - 1


def multi_token_association(
    seed: int = 42,
    *,
    num_blocks: int = 50,
    block_length: int = 5,
    query_length: int = 2,
    alphabet_size: int = 26,
) -> Iterator[tuple[Int[np.ndarray, " N"], int]]:
    """Yield (tokens, number of the block that holds all letters of the query)."""
    if not 1 <= query_length <= block_length < alphabet_size <= len(ALPHABET):
        raise DataError(
            f"query_length={query_length}, block_length={block_length}, alphabet_size={alphabet_size} must grow in "
            "this order, with at most 26 letters"
        )
    choose = random.Random(seed)
    letters, tokens = list(ALPHABET[:alphabet_size]), vocabulary(alphabet_size)
    while True:
        target = choose.sample(letters, block_length)
        query = choose.sample(target, query_length)
        answer = choose.randrange(num_blocks)
        blocks = [
            list(target) if index == answer else _distractor(letters, block_length, set(query), choose)
            for index in range(num_blocks)
        ]
        for block in blocks:
            choose.shuffle(block)
        text = "".join(query) + "#" + ".".join("".join(block) for block in blocks)
        yield np.fromiter((tokens[symbol] for symbol in text), np.uint8, len(text)), answer


def _distractor(letters: list[str], length: int, query: set[str], choose: random.Random) -> list[str]:
    while True:
        block = choose.sample(letters, length)
        if not query <= set(block):
            return block
