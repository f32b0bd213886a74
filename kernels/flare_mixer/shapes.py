"""Named shapes of the mixer, for tests and benchmarks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MixerShape:
    """Sizes of one use of the mixer: batch, points, heads, latents and head width."""

    batch: int
    points: int
    heads: int
    latents: int
    width: int


SHAPES = {
    "elasticity": MixerShape(2, 972, 8, 64, 8),
    "darcy": MixerShape(2, 7225, 16, 256, 4),
    "drivaerml_40k": MixerShape(1, 40_000, 8, 256, 8),
    "listops": MixerShape(32, 2048, 8, 64, 8),
    "million_m128": MixerShape(1, 1_000_000, 8, 128, 16),
    "million_m512": MixerShape(1, 1_000_000, 8, 512, 16),
    "million_m2048": MixerShape(1, 1_000_000, 8, 2048, 16),
}
