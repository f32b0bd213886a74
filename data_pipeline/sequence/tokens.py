"""Bytes as tokens: 0 is padding and byte b is token b + 1, which makes 257 tokens."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Int, UInt16

BYTE_VOCABULARY = 257


def encode_bytes(
    texts: Iterable[bytes], count: int, max_length: int
) -> tuple[UInt16[np.ndarray, "S N"], Int[np.ndarray, " S"]]:
    """Return the tokens of `count` texts, cut at or padded to `max_length`, and how many are real."""
    ids = np.zeros((count, max_length), np.uint16)
    lengths = np.zeros(count, np.int32)
    for index, text in enumerate(texts):
        values = np.frombuffer(text[:max_length], np.uint8)
        ids[index, : len(values)] = values.astype(np.uint16) + 1
        lengths[index] = len(values)
    return ids, lengths


def decode_bytes(ids: Int[np.ndarray, " N"]) -> bytes:
    """Return the text of one row of tokens; padding is left out."""
    return (ids[ids > 0] - 1).astype(np.uint8).tobytes()
