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

# With decay: the attention of gated linear language models of 15M parameters; heads as those of the gated state of
# 32 latents, which has one decay per head; and heads of 64 at the same length.
GATED_SHAPES = {
    "gla_15m": AttentionShape(4, 32_768, 4, 48, 96),
    "gla_d32": AttentionShape(4, 32_768, 6, 32, 64),
    "gla_d64": AttentionShape(4, 32_768, 6, 64, 64),
}
