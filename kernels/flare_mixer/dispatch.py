"""The tables: device, dtype and shape to the implementation that runs and to the launch of its kernels.

`python -m benchmarks.search --op=flare_mixer` times other launches on the GPU at hand and prints them in this form.
"""

from dataclasses import dataclass

import jax

from kernels._pallas import platform
from kernels.flare_mixer.operands import Operands

IMPLEMENTATIONS = ("reference", "xla", "cudnn", "pallas")
WIDEST_PALLAS_HEAD = 128


@dataclass(frozen=True)
class Choice:
    """What `implementation=None` means on one platform, for the given dtypes and head widths up to `width`."""

    platform: str
    dtypes: tuple[str, ...]
    width: int
    implementation: str


# The first row that fits decides; whatever no row fits runs in XLA, which serves everything.
CHOICES = (Choice("gpu", ("float32", "bfloat16"), WIDEST_PALLAS_HEAD, "pallas"),)


@dataclass(frozen=True)
class Blocks:
    """How one kernel is launched.

    `points` and `latents` are the sides of a tile; the points are split so that about `programs` programs run in all;
    `warps` and `stages` are Triton's. In the kernel of the operands' gradients `group` tiles of points share a
    pass over the latents, whose gradients travel between memory and registers once per pass, and with `one_exponential`
    both softmaxes share one where the range of the logits allows it, in bfloat16 and with common logits only.
    """

    points: int
    latents: int
    programs: int
    warps: int
    stages: int = 2
    group: int = 1
    one_exponential: bool = False


@dataclass(frozen=True)
class KernelBlocks:
    """The launches of the four kernels."""

    gather: Blocks
    scatter: Blocks
    latent_gradient: Blocks
    operand_gradients: Blocks


@dataclass(frozen=True)
class Launch:
    """The launches for one dtype, head widths up to `width` and at most `points` points (None: any number)."""

    dtype: str
    width: int
    points: int | None
    blocks: KernelBlocks


# The first row that fits decides. Measured on an H100: the rows up to width 16. The others come from registers and
# occupancy of the compiled kernels.
LAUNCHES = (
    Launch(
        "bfloat16",
        16,
        2048,
        KernelBlocks(Blocks(128, 16, 1, 4), Blocks(64, 64, 528, 4), Blocks(128, 16, 1, 4), Blocks(64, 32, 528, 4)),
    ),
    Launch(
        "bfloat16",
        16,
        None,
        KernelBlocks(
            Blocks(64, 128, 2112, 4, stages=3),
            Blocks(128, 128, 1056, 4, stages=3),
            Blocks(64, 256, 4224, 4, stages=3),
            Blocks(32, 32, 1056, 2, stages=3, group=3, one_exponential=True),
        ),
    ),
    Launch(
        "bfloat16",
        64,
        None,
        KernelBlocks(Blocks(64, 64, 792, 4), Blocks(64, 64, 1056, 4), Blocks(64, 64, 792, 4), Blocks(64, 32, 528, 4)),
    ),
    Launch(
        "bfloat16",
        128,
        None,
        KernelBlocks(Blocks(64, 64, 528, 8), Blocks(64, 64, 528, 8), Blocks(64, 64, 528, 8), Blocks(64, 32, 264, 8)),
    ),
    Launch(
        "float32",
        16,
        2048,
        KernelBlocks(Blocks(64, 32, 264, 4), Blocks(64, 64, 528, 4), Blocks(32, 64, 264, 4), Blocks(32, 64, 528, 4)),
    ),
    Launch(
        "float32",
        16,
        65536,
        KernelBlocks(
            Blocks(128, 64, 1056, 4),
            Blocks(64, 128, 1056, 4),
            Blocks(64, 128, 1056, 4),
            Blocks(32, 32, 1056, 2, stages=3),
        ),
    ),
    Launch(
        "float32",
        16,
        None,
        KernelBlocks(
            Blocks(64, 128, 4224, 4, stages=3),
            Blocks(128, 128, 2112, 4, stages=3),
            Blocks(64, 128, 4224, 4, stages=3),
            Blocks(32, 32, 2112, 2, stages=3, group=2),
        ),
    ),
    Launch(
        "float32",
        32,
        None,
        KernelBlocks(Blocks(32, 64, 1056, 4), Blocks(64, 32, 1056, 4), Blocks(32, 64, 1056, 4), Blocks(64, 32, 528, 4)),
    ),
    Launch(
        "float32",
        64,
        None,
        KernelBlocks(Blocks(32, 32, 528, 4), Blocks(64, 32, 528, 4), Blocks(32, 32, 528, 4), Blocks(32, 32, 264, 4)),
    ),
    Launch(
        "float32",
        128,
        None,
        KernelBlocks(
            Blocks(32, 32, 264, 8), Blocks(32, 32, 264, 8), Blocks(32, 32, 264, 8), Blocks(16, 16, 264, 4, stages=1)
        ),
    ),
)


def _widths(operands: Operands) -> list[int]:
    return [x.shape[-1] for x in (operands.k, operands.v, operands.k_decode) if x is not None]


def kernel_blocks(operands: Operands) -> KernelBlocks:
    """Return the launches of the Pallas kernels for `operands`."""
    dtype, width, points = operands.k.dtype.name, max(_widths(operands)), operands.k.shape[1]
    return next(
        row.blocks
        for row in LAUNCHES
        if row.dtype == dtype and width <= row.width and (row.points is None or points <= row.points)
    )


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
    checks = {"cudnn": _check_cudnn, "pallas": _check_pallas}
    checks.get(implementation, lambda operands: None)(operands)
    return implementation


def _choose(operands: Operands) -> str:
    dtype, width = operands.k.dtype.name, max(_widths(operands))
    fitting = (
        row.implementation
        for row in CHOICES
        if row.platform == platform() and dtype in row.dtypes and width <= row.width
    )
    return next(fitting, "xla")


def _check_axis(axis_name: str, implementation: str | None) -> None:
    if implementation in ("reference", "cudnn"):
        raise ValueError(
            f"axis_name is {axis_name!r}, over which {implementation!r} cannot merge; use 'xla' or 'pallas' instead."
        )
    try:
        jax.lax.axis_size(axis_name)
    except NameError:
        raise ValueError(
            f"axis_name is {axis_name!r}, which is no mesh axis here; call flare_mixer in a shard_map over that axis."
        ) from None


def _check_pallas(operands: Operands) -> None:
    dtype, width = operands.k.dtype.name, max(_widths(operands))
    if dtype not in {row.dtype for row in LAUNCHES}:
        raise ValueError(f"implementation 'pallas' takes float32 or bfloat16, not {dtype}; use implementation 'xla'.")
    if width > WIDEST_PALLAS_HEAD:
        raise ValueError(
            f"implementation 'pallas' takes head widths up to {WIDEST_PALLAS_HEAD}, not {width}; use 'xla' instead."
        )
    if platform() == "tpu":
        raise ValueError("implementation 'pallas' needs an NVIDIA GPU, and this is a TPU; use implementation 'xla'.")


def _check_cudnn(operands: Operands) -> None:
    dtype, width = operands.k.dtype.name, max(_widths(operands))
    if dtype not in ("float16", "bfloat16"):
        raise ValueError(f"implementation 'cudnn' takes float16 or bfloat16, not {dtype}; use 'pallas' or 'xla'.")
    if width > 128 or (operands.mask is not None and operands.k.shape[-1] == 128):
        raise ValueError(
            f"implementation 'cudnn' takes head widths up to 128, with a mask 127, not {width}; use 'xla' instead."
        )
    if platform() != "gpu":
        raise ValueError(f"implementation 'cudnn' needs an NVIDIA GPU, and this is a {platform()}; use 'xla'.")
