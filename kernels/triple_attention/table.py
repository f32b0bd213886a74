"""The table of triple attention: what its implementations serve, which one runs where, and how.

The launches can be searched with `python -m benchmarks.search --op=triple_attention`, which prints rows in this form.
"""

from dataclasses import dataclass

from kernels._implementation import Implementation
from kernels._operation import H100, Choice, Launch, Operation
from kernels._target import Target
from kernels._triton import PACKAGES

WIDEST_HEAD = 128
_KERNEL_DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class Blocks:
    """How one kernel is launched.

    A program takes tiles of `rows` points and `slices` values of the state's last index at a time. `programs` is about
    how many programs the accumulation splits the points into; `warps` and `stages` are Triton's. `exact` says how
    float32 tiles are multiplied: "tf32x3" or "ieee", both float32-accurate.
    """

    rows: int
    slices: int
    warps: int
    stages: int = 2
    programs: int = 528
    exact: str = "tf32x3"

    def shared_bytes(self, width: int, item: int) -> int:
        """Return about how many bytes of shared memory a program has: staged operands and pairs, of `item` bytes."""
        return item * (self.stages * 3 * self.rows * width + self.slices * width * max(self.rows, width))


@dataclass(frozen=True)
class KernelBlocks:
    """The launches of the three kernels."""

    accumulate: Blocks
    read: Blocks
    pair: Blocks


def _rows(implementation: str) -> tuple[Launch, ...]:
    """Return the launches of "pallas" or "triton".

    The accumulators of a program, rows or (slices x width) times (slices x) width, are sized to fill its registers
    without spilling; two or more programs share a multiprocessor.
    """
    rows = (
        ("bfloat16", 16, KernelBlocks(Blocks(64, 16, 4), Blocks(128, 8, 8), Blocks(128, 8, 8))),
        ("bfloat16", 32, KernelBlocks(Blocks(32, 16, 4, 3), Blocks(128, 4, 8), Blocks(128, 4, 8))),
        ("bfloat16", 64, KernelBlocks(Blocks(32, 4, 4), Blocks(128, 2, 8), Blocks(128, 2, 8))),
        ("bfloat16", 128, KernelBlocks(Blocks(32, 1, 4), Blocks(128, 1, 8), Blocks(128, 1, 8))),
        ("float32", 16, KernelBlocks(Blocks(32, 16, 8), Blocks(128, 8, 8), Blocks(128, 8, 8))),
        ("float32", 32, KernelBlocks(Blocks(32, 8, 8), Blocks(128, 4, 8), Blocks(128, 4, 8))),
        ("float32", 64, KernelBlocks(Blocks(32, 4, 8), Blocks(64, 1, 4), Blocks(64, 1, 4))),
        ("float32", 128, KernelBlocks(Blocks(16, 1, 8), Blocks(64, 1, 8, 1), Blocks(64, 1, 8, 1))),
    )
    return tuple(
        Launch(dtype, width, blocks, implementation=implementation, measured=H100) for dtype, width, blocks in rows
    )


OPERATION = Operation(
    "triple_attention",
    implementations=(
        Implementation("reference", merges=False),
        Implementation("xla"),
        Implementation("pallas", _KERNEL_DTYPES, WIDEST_HEAD, ("cpu", "cuda", "rocm"), pallas_triton=True),
        Implementation("triton", _KERNEL_DTYPES, WIDEST_HEAD, ("cuda",), packages=PACKAGES),
    ),
    # On an H100 Triton takes 7 to 31 % less time than Pallas at widths of 16 to 64.
    choices=(
        Choice("triton", ("bfloat16",), 64),
        Choice("pallas", ("bfloat16",), WIDEST_HEAD),
        Choice("pallas", ("float32",), 64),
    ),
    launches=(*_rows("pallas"), *_rows("triton")),
)


def chunk_elements(target: Target) -> int:
    """Return how many elements of `[N, D, D]` "xla" holds at once: cache-sized on a CPU, large on an accelerator."""
    return 2**21 if target.platform == "cpu" else 2**26
