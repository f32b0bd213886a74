"""Named shapes of triple attention, for tests and benchmarks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TripleShape:
    """Sizes of one use: batch, points, heads and head width."""

    batch: int
    points: int
    heads: int
    width: int


SHAPES = {
    "listops": TripleShape(32, 2048, 8, 16),
    "points_65k_d16": TripleShape(1, 65_536, 8, 16),
    "points_65k_d32": TripleShape(1, 65_536, 8, 32),
    "points_65k_d64": TripleShape(1, 65_536, 8, 64),
    "points_500k_d32": TripleShape(1, 500_000, 8, 32),
}
