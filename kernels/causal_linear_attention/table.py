"""The table of causal linear attention: what its implementations serve, which one runs where, and how.

The launches are chosen with `python -m benchmarks.search --op=causal_linear_attention,gated_linear_attention`, which
prints rows in this form.
"""

from dataclasses import dataclass

from jax.experimental import pallas as pl

from kernels._implementation import Implementation
from kernels._operation import H100, H200, NOT_MEASURED, Choice, Launch, Operation
from kernels._triton import PACKAGES

WIDEST_HEAD = 128
_KERNEL_DTYPES = ("float32", "bfloat16")


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
    """The launches of the kernels; the points are split so that about `programs` programs run per kernel.

    `pair` is that of the walk which finds the gradients of keys and values together; None finds them by two walks of
    `mix`. `exact` says how float32 tiles are multiplied: "tf32x3" or "ieee".
    """

    programs: int
    sums: Blocks
    mix: Blocks
    exact: str = "tf32x3"
    pair: Blocks | None = None

    def shared_bytes(self, width: int, item: int) -> int:
        """Return how many bytes of shared memory a program has at most: staged operands and state, of `item` bytes."""
        sums, mix, pair = self.sums, self.mix, self.pair
        most = max(
            2 * sums.stages * sums.points * width,
            mix.stages * mix.points * (2 * width + mix.columns) + width * mix.columns,
        )
        if pair is not None:
            most = max(most, 4 * pair.stages * pair.points * width + (width + pair.points) * width)
        return item * most

    def split_points(self, points: int, heads: int) -> int:
        """Return how many of `points` points one split has, when `heads` heads of all samples run side by side."""
        tile = max(x.points for x in (self.sums, self.mix, self.pair) if x is not None)
        return _split_points(points, heads, tile, self.programs)


def _split_points(points: int, heads: int, tile: int, programs: int) -> int:
    tiles = pl.cdiv(points, tile)
    splits = min(tiles, max(1, programs // heads))
    return pl.cdiv(tiles, splits) * tile


def _launches(dtype: str, width: int, blocks: KernelBlocks) -> tuple[Launch, ...]:
    """Return a launch, measured on an H100, of both kinds of kernels."""
    return tuple(
        Launch(dtype, width, blocks, implementation=implementation, measured=H100)
        for implementation in ("pallas", "triton")
    )


OPERATION = Operation(
    "causal_linear_attention",
    implementations=(
        Implementation("reference"),
        Implementation("xla"),
        Implementation("pallas", _KERNEL_DTYPES, WIDEST_HEAD, ("cpu", "cuda", "rocm"), pallas_triton=True),
        Implementation("triton", _KERNEL_DTYPES, WIDEST_HEAD, ("cuda",), packages=PACKAGES),
    ),
    choices=(
        # 131 072 tokens, 8 heads of 64, forward with backward: Triton 6.85, Pallas 7.98, XLA 7.81 ms (with twice the
        # memory); in bfloat16 Pallas 0.815, Triton 0.827 ms.
        Choice("triton", ("float32",), 64, measured=H200),
        Choice("pallas", _KERNEL_DTYPES, WIDEST_HEAD, measured=H200),
        # For a JAX without the Triton lowering of Pallas: at widths of 64 and 128 a third to a sixth of XLA's time.
        Choice("triton", ("bfloat16",), WIDEST_HEAD, measured=H100),
    ),
    launches=(
        # The first that suits and fits into the shared memory is taken.
        *_launches("bfloat16", 32, KernelBlocks(1056, Blocks(64, 32, 4), Blocks(64, 32, 4))),
        Launch(
            "bfloat16",
            64,
            KernelBlocks(528, Blocks(32, 64, 4, 3), Blocks(64, 64, 4, 3), pair=Blocks(64, 64, 4, 3)),
            measured=H200,
        ),
        *_launches("bfloat16", 64, KernelBlocks(396, Blocks(64, 64, 4), Blocks(64, 64, 4))),
        Launch("bfloat16", 128, KernelBlocks(264, Blocks(32, 128, 4, 4), Blocks(64, 128, 4, 3)), measured=H200),
        Launch(
            "bfloat16",
            128,
            KernelBlocks(528, Blocks(64, 128, 8), Blocks(64, 64, 4, 4)),
            implementation="triton",
            measured=H200,
        ),
        *_launches("bfloat16", 128, KernelBlocks(528, Blocks(64, 128, 8), Blocks(64, 64, 8))),
        *_launches("float32", 32, KernelBlocks(1056, Blocks(32, 32, 4), Blocks(32, 32, 4))),
        *_launches("float32", 64, KernelBlocks(528, Blocks(32, 64, 4), Blocks(32, 32, 4))),
        *_launches("float32", 128, KernelBlocks(264, Blocks(32, 128, 8), Blocks(32, 32, 8))),
    ),
)


@dataclass(frozen=True)
class GatedBlock:
    """How one kernel with decay is launched: tiles of `points`; `warps` and `stages` are Triton's."""

    points: int
    warps: int
    stages: int = 2


@dataclass(frozen=True)
class GatedBlocks:
    """The launches of the kernels with decay; the points are split so that about `programs` programs run per kernel.

    `exact` is as in `KernelBlocks`.
    """

    programs: int
    sums: GatedBlock
    mix: GatedBlock
    gradients: GatedBlock
    exact: str = "tf32x3"

    def shared_bytes(self, width: int, item: int) -> int:
        """Return how many bytes of shared memory a program has at most: operands of `item` bytes, decays, and state."""
        sums, points = self.sums, max(self.mix.points, self.gradients.points)
        staged = sums.stages * sums.points * width * (2 * item + 4)
        return max(staged, 4 * item * points * width) + item * (width + points) * width

    def split_points(self, points: int, heads: int) -> int:
        """Return how many of `points` points one split has, when `heads` heads of all samples run side by side."""
        tile = max(x.points for x in (self.sums, self.mix, self.gradients))
        return _split_points(points, heads, tile, self.programs)


# Fewer points are a step of decoding, or little more.
_FEWEST_GATED = 32
_GATED_MEASURED = (
    "bfloat16, 4 x 32 768 tokens, 6 heads, with backward on one H200: D 32 and C 64 1.31 ms, XLA 9.24; D and C 64 "
    "2.76 ms, XLA 21.0; the step of a language model with D 48 and C 96 64.6 ms, with XLA 144"
)
GATED = Operation(
    "gated_linear_attention",
    implementations=(
        Implementation("reference"),
        Implementation("xla"),
        Implementation("pallas", _KERNEL_DTYPES, WIDEST_HEAD, ("cpu", "cuda", "rocm"), pallas_triton=True),
    ),
    choices=(
        Choice("pallas", ("bfloat16",), WIDEST_HEAD, measured=_GATED_MEASURED, fewest=_FEWEST_GATED),
        Choice("pallas", ("float32",), WIDEST_HEAD, measured=NOT_MEASURED, fewest=_FEWEST_GATED),
    ),
    launches=(
        Launch("bfloat16", 64, GatedBlocks(528, GatedBlock(64, 4), GatedBlock(64, 4), GatedBlock(64, 4))),
        Launch("bfloat16", 128, GatedBlocks(264, GatedBlock(32, 8), GatedBlock(32, 8), GatedBlock(32, 8))),
        Launch("float32", 64, GatedBlocks(528, GatedBlock(32, 4), GatedBlock(16, 4), GatedBlock(16, 4))),
        Launch("float32", 128, GatedBlocks(264, GatedBlock(16, 8), GatedBlock(16, 8), GatedBlock(16, 8))),
    ),
)


def chunk_points(width: int) -> int:
    """Return the chunk of `xla`: the matrix of weights and the state of a chunk should be about equally large."""
    return 64 if width <= 64 else 128
