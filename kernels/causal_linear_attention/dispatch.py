"""The tables: device, dtype and shape to the implementation that runs and to the launch of its kernels.

The launches are chosen with `python -m benchmarks.search --op=causal_linear_attention`, which prints rows in this form.
"""

from dataclasses import dataclass

from jax.experimental import pallas as pl

from kernels._pallas import platform
from kernels._triton import require_triton

IMPLEMENTATIONS = ("reference", "xla", "pallas", "triton")
WIDEST_HEAD = 128


@dataclass(frozen=True)
class Choice:
    """What `implementation=None` means on one platform, for the given dtypes and head widths up to `width`."""

    platform: str
    dtypes: tuple[str, ...]
    width: int
    implementation: str


# The first row that fits decides; whatever no row fits runs in XLA, which serves everything.
CHOICES = (Choice("gpu", ("float32", "bfloat16"), WIDEST_HEAD, "pallas"),)


@dataclass(frozen=True)
class Blocks:
    """How one kernel is launched.

    A program walks over its points in tiles of `points`; the mixing programs own `columns` of the values, the summing
    ones all of them. `warps` and `stages` are Triton's.
    """

    points: int
    columns: int
    warps: int
    stages: int = 2


@dataclass(frozen=True)
class KernelBlocks:
    """The launches of both kernels; the points are split so that about `programs` programs run per kernel.

    `exact` says how float32 tiles are multiplied: "tf32x3" or "ieee".
    """

    programs: int
    sums: Blocks
    mix: Blocks
    exact: str = "tf32x3"

    def split_points(self, points: int, heads: int) -> int:
        """Return how many of `points` points one split has, when `heads` heads of all samples run side by side."""
        tile = max(self.sums.points, self.mix.points)
        tiles = pl.cdiv(points, tile)
        splits = min(tiles, max(1, self.programs // heads))
        return pl.cdiv(tiles, splits) * tile


@dataclass(frozen=True)
class Launch:
    """The launches of one implementation for one dtype and head widths up to `width`."""

    implementation: str
    dtype: str
    width: int
    blocks: KernelBlocks


# The first row that fits decides.
LAUNCHES = tuple(
    Launch(implementation, dtype, width, blocks)
    for implementation in ("pallas", "triton")
    for dtype, width, blocks in (
        ("bfloat16", 32, KernelBlocks(1056, Blocks(64, 32, 4), Blocks(64, 32, 4))),
        ("bfloat16", 64, KernelBlocks(396, Blocks(64, 64, 4), Blocks(64, 64, 4))),
        ("bfloat16", 128, KernelBlocks(528, Blocks(64, 128, 8), Blocks(64, 64, 8))),
        ("float32", 32, KernelBlocks(1056, Blocks(32, 32, 4), Blocks(32, 32, 4))),
        ("float32", 64, KernelBlocks(528, Blocks(32, 64, 4), Blocks(32, 32, 4))),
        ("float32", 128, KernelBlocks(264, Blocks(32, 128, 8), Blocks(32, 32, 8))),
    )
)


def kernel_blocks(implementation: str, dtype: str, width: int) -> KernelBlocks:
    """Return the launches of the kernels of "pallas" or "triton"; `width` is the larger of D and C."""
    return next(
        row.blocks
        for row in LAUNCHES
        if (row.implementation, row.dtype) == (implementation, dtype) and width <= row.width
    )


def chunk_points(width: int) -> int:
    """Return the chunk of `xla`: the matrix of weights and the state of a chunk should be about equally large."""
    return 64 if width <= 64 else 128


def resolve(implementation: str | None, dtype: str, width: int) -> str:
    """Return the implementation to run, or raise ValueError where a named one cannot serve the request."""
    if implementation is None:
        return _choose(dtype, width)
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"implementation is {implementation!r}; give one of {', '.join(IMPLEMENTATIONS)}, or None to choose one."
        )
    if implementation in ("pallas", "triton"):
        _check_kernel(implementation, dtype, width)
    return implementation


def _choose(dtype: str, width: int) -> str:
    fitting = (
        row.implementation
        for row in CHOICES
        if row.platform == platform() and dtype in row.dtypes and width <= row.width
    )
    return next(fitting, "xla")


def _check_kernel(implementation: str, dtype: str, width: int) -> None:
    if dtype not in {row.dtype for row in LAUNCHES}:
        raise ValueError(
            f"implementation {implementation!r} takes float32 or bfloat16, not {dtype}; use implementation 'xla'."
        )
    if width > WIDEST_HEAD:
        raise ValueError(
            f"implementation {implementation!r} takes head widths up to {WIDEST_HEAD}, not {width}; use 'xla' instead."
        )
    if platform() == "tpu" or (implementation == "triton" and platform() != "gpu"):
        raise ValueError(
            f"implementation {implementation!r} needs an NVIDIA GPU, and this is a {platform()}; use 'xla' instead."
        )
    if implementation == "triton":
        require_triton()
