"""Named shapes of causal linear attention, for tests and benchmarks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AttentionShape:
    """Sizes of one use: batch, tokens, heads, width of queries and keys, width of values."""

    batch: int
    points: int
    heads: int
    width: int
    channels: int


SHAPES = {
    "long_d64": AttentionShape(1, 131_072, 8, 64, 64),
    "long_d128": AttentionShape(1, 131_072, 8, 128, 128),
    "text_4k": AttentionShape(8, 4096, 8, 64, 64),
    "listops": AttentionShape(32, 2048, 8, 16, 16),
}
