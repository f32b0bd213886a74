"""Named shapes of the causal mixer, for tests and benchmarks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CausalShape:
    """Sizes of one use: batch, tokens, heads, latents and head width."""

    batch: int
    points: int
    heads: int
    latents: int
    width: int


SHAPES = {
    "text_1k": CausalShape(8, 1024, 8, 64, 32),
    "text_8k": CausalShape(4, 8192, 8, 128, 64),
    "long_m64": CausalShape(1, 131_072, 8, 64, 64),
    "published_m64": CausalShape(1, 131_072, 16, 64, 32),
    "published_4k": CausalShape(8, 4096, 16, 64, 32),
    "published_4k_d128": CausalShape(8, 4096, 4, 64, 128),
    "wide_m2048": CausalShape(1, 8192, 8, 2048, 64),
}
