"""Samples of different lengths as one batch, padded to the longest of them.

Training keeps whole data sets padded to one length on the device; this is for everything else.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from data_pipeline.errors import DataError
from data_pipeline.sequence.dataset import IGNORE_INDEX

Row = Int[np.ndarray, " N"]


class TokenBatch(NamedTuple):
    """Token ids [B, N], labels [B] or [B, N], and the mask [B, N] of real tokens, None where all are."""

    input_ids: Int[np.ndarray, "B N"]
    labels: Int[np.ndarray, " B"] | Int[np.ndarray, "B N"]
    mask: Bool[np.ndarray, "B N"] | None


def collate(
    samples: Sequence[tuple[Row, Row]],
    *,
    pad_id: int | None,
    token_level: bool,
    ignore_index: int = IGNORE_INDEX,
) -> TokenBatch:
    """Return samples (token ids, labels) as one batch.

    With a `pad_id`, rows are filled up on the right and masked, and labels of token-level tasks filled up with
    `ignore_index`. Without, all samples must have one length. Raises DataError for samples that do not fit.
    """
    inputs, labels = ([np.asarray(row, np.int64).reshape(-1) for row in part] for part in zip(*samples, strict=True))
    lengths = {len(row) for row in inputs}
    if pad_id is None and len(lengths) > 1:
        raise DataError(
            f"samples have {min(lengths)} to {max(lengths)} tokens but the task has no pad_id; pad them or give one"
        )
    if token_level:
        targets = _fill(labels, ignore_index)
    elif any(len(row) != 1 for row in labels):
        raise DataError("a sample has more than one label but the task has one per sample; set token_level=True")
    else:
        targets = np.concatenate(labels)
    if pad_id is None:
        return TokenBatch(np.stack(inputs), targets, None)
    ids = _fill(inputs, pad_id)
    return TokenBatch(ids, targets, ids != pad_id)


def _fill(rows: Sequence[Row], value: int) -> Int[np.ndarray, "B N"]:
    filled = np.full((len(rows), max(map(len, rows))), value, np.int64)
    for filled_row, row in zip(filled, rows, strict=True):
        filled_row[: len(row)] = row
    return filled
