"""The tables: device, dtype and shape to the implementation that runs and to the launch of its kernels.

The launches can be searched with `python -m benchmarks.search --op=triple_attention`, which prints rows in this form.
"""

from dataclasses import dataclass

import jax

from kernels._pallas import platform
from kernels._triton import require_triton, triton_available
from kernels.triple_attention.contractions import Operands

IMPLEMENTATIONS = ("reference", "xla", "pallas", "triton")
WIDEST_KERNEL_HEAD = 128


@dataclass(frozen=True)
class Choice:
    """What `implementation=None` means on one platform, for one dtype and head widths up to `width`."""

    platform: str
    dtype: str
    width: int
    implementation: str


# The first row that fits decides, rows of "triton" only where its packages are installed; whatever no row fits runs in
# XLA, which serves everything. On an H100 Triton takes 7 to 31 % less time than Pallas at widths of 16 to 64.
CHOICES = (
    Choice("gpu", "bfloat16", 64, "triton"),
    Choice("gpu", "bfloat16", WIDEST_KERNEL_HEAD, "pallas"),
    Choice("gpu", "float32", 64, "pallas"),
)


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


@dataclass(frozen=True)
class KernelBlocks:
    """The launches of the three kernels."""

    accumulate: Blocks
    read: Blocks
    pair: Blocks


@dataclass(frozen=True)
class Launch:
    """The launches for one dtype and head widths up to `width`."""

    dtype: str
    width: int
    blocks: KernelBlocks


# The first row that fits decides. The accumulators of a program, rows or (slices x width) times (slices x) width, are
# sized to fill its registers without spilling; two or more programs share a multiprocessor.
LAUNCHES = (
    Launch("bfloat16", 16, KernelBlocks(Blocks(64, 16, 4), Blocks(128, 8, 8), Blocks(128, 8, 8))),
    Launch("bfloat16", 32, KernelBlocks(Blocks(32, 16, 4, 3), Blocks(128, 4, 8), Blocks(128, 4, 8))),
    Launch("bfloat16", 64, KernelBlocks(Blocks(32, 4, 4), Blocks(128, 2, 8), Blocks(128, 2, 8))),
    Launch("bfloat16", 128, KernelBlocks(Blocks(32, 1, 4), Blocks(128, 1, 8), Blocks(128, 1, 8))),
    Launch("float32", 16, KernelBlocks(Blocks(32, 16, 8), Blocks(128, 8, 8), Blocks(128, 8, 8))),
    Launch("float32", 32, KernelBlocks(Blocks(32, 8, 8), Blocks(128, 4, 8), Blocks(128, 4, 8))),
    Launch("float32", 64, KernelBlocks(Blocks(32, 4, 8), Blocks(64, 1, 4), Blocks(64, 1, 4))),
    Launch("float32", 128, KernelBlocks(Blocks(16, 1, 8), Blocks(64, 1, 8, 1), Blocks(64, 1, 8, 1))),
)


def _width(operands: Operands) -> int:
    return max(operands.q1.shape[-1], operands.v.shape[-1])


def kernel_blocks(operands: Operands) -> KernelBlocks:
    """Return the launches of the kernels for `operands`."""
    dtype, width = operands.v.dtype.name, _width(operands)
    return next(row.blocks for row in LAUNCHES if row.dtype == dtype and width <= row.width)


def chunk_elements() -> int:
    """Return how many elements of `[N, D, D]` "xla" holds at once: cache-sized on a CPU, large on an accelerator."""
    return 2**21 if platform() == "cpu" else 2**26


def resolve(implementation: str | None, operands: Operands, axis_name: str | None) -> str:
    """Return the implementation to run, or raise ValueError where a named one cannot serve the request."""
    if axis_name is not None:
        _check_axis(axis_name, implementation)
    if implementation is None:
        return _choose(operands)
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"implementation is {implementation!r}; give one of {', '.join(IMPLEMENTATIONS)}, or None to choose one."
        )
    if implementation in ("pallas", "triton"):
        _check_kernel(implementation, operands)
    if implementation == "triton":
        _check_triton()
    return implementation


def _choose(operands: Operands) -> str:
    dtype, width = operands.v.dtype.name, _width(operands)
    fitting = (
        row.implementation
        for row in CHOICES
        if row.platform == platform()
        and dtype == row.dtype
        and width <= row.width
        and (row.implementation != "triton" or triton_available())
    )
    return next(fitting, "xla")


def _check_axis(axis_name: str, implementation: str | None) -> None:
    if implementation == "reference":
        raise ValueError(f"axis_name is {axis_name!r}, over which 'reference' cannot merge; use 'xla' instead.")
    try:
        jax.lax.axis_size(axis_name)
    except NameError:
        raise ValueError(
            f"axis_name is {axis_name!r}, which is no mesh axis here; "
            "call triple_attention in a shard_map over that axis."
        ) from None


def _check_kernel(implementation: str, operands: Operands) -> None:
    dtype, width = operands.v.dtype.name, _width(operands)
    if dtype not in {row.dtype for row in LAUNCHES}:
        raise ValueError(
            f"implementation {implementation!r} takes float32 or bfloat16, not {dtype}; use implementation 'xla'."
        )
    if width > WIDEST_KERNEL_HEAD:
        raise ValueError(
            f"implementation {implementation!r} takes head widths up to {WIDEST_KERNEL_HEAD}, not {width}; "
            "use implementation 'xla'."
        )
    if platform() == "tpu":
        raise ValueError(
            f"implementation {implementation!r} needs an NVIDIA GPU, and this is a TPU; use implementation 'xla'."
        )


def _check_triton() -> None:
    if platform() != "gpu":
        raise ValueError(
            f"implementation 'triton' needs an NVIDIA GPU, and this is a {platform()}; use implementation 'xla'."
        )
    require_triton()
