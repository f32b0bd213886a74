"""The table of the gather: what its implementations serve, which one runs where, and how its kernels are launched.

`python -m benchmarks.search --op=gather` times other launches on the GPU at hand and prints them in this form.
"""

from dataclasses import dataclass, replace

from kernels._implementation import Implementation
from kernels._operation import H100, H200, Choice, Launch, Operation
from kernels._tiling import Blocks

WIDEST_HEAD = 128
_KERNEL_DTYPES = ("float32", "bfloat16")
_AS_MIXER = f"as flare_mixer's gather and operand gradients ({H100})"


@dataclass(frozen=True)
class KernelBlocks:
    """The launches of both kernels, and that of the gradients with coarse products, where it is another."""

    gather: Blocks
    gradients: Blocks
    coarse_gradients: Blocks | None = None

    def __post_init__(self) -> None:
        if any(x is not None and (x.held or x.joined) for x in (self.gradients, self.coarse_gradients)):
            raise ValueError(
                f"the launches of the gradients are {self.gradients} and {self.coarse_gradients}; give them held=False "
                "and joined=False, which the mixer's gradients alone know"
            )


_MANY = KernelBlocks(Blocks(64, 128, 2112, 4, stages=3), Blocks(32, 64, 1056, 2, stages=3, group=3))

OPERATION = Operation(
    "gather",
    implementations=(
        Implementation("reference", merges=False),
        Implementation("xla"),
        Implementation("pallas", _KERNEL_DTYPES, WIDEST_HEAD, ("cpu", "cuda", "rocm"), pallas_triton=True),
    ),
    choices=(Choice("pallas", _KERNEL_DTYPES, WIDEST_HEAD, measured=_AS_MIXER),),
    launches=(
        Launch(
            "bfloat16",
            16,
            KernelBlocks(Blocks(128, 16, 1, 4), Blocks(64, 32, 528, 4)),
            points=2048,
            measured=_AS_MIXER,
        ),
        Launch("bfloat16", 16, _MANY, points=65536, measured=H200),
        # 359 instead of 413 us with a million points and 128 latents; the second launch takes 3.
        Launch("bfloat16", 16, replace(_MANY, gather=replace(_MANY.gather, bounded=True)), measured=H200),
        Launch("bfloat16", 64, KernelBlocks(Blocks(64, 64, 792, 4), Blocks(64, 32, 528, 4))),
        Launch("bfloat16", 128, KernelBlocks(Blocks(64, 64, 528, 8), Blocks(64, 32, 264, 8))),
        Launch(
            "float32", 16, KernelBlocks(Blocks(64, 32, 264, 4), Blocks(32, 64, 528, 4)), points=2048, measured=_AS_MIXER
        ),
        Launch(
            "float32",
            16,
            # One part of each operand, as in bfloat16; 93 us on Darcy, 176 with the tiles beside it (one H200).
            KernelBlocks(
                Blocks(128, 64, 1056, 4),
                Blocks(32, 32, 1056, 2, stages=3),
                coarse_gradients=Blocks(32, 64, 1056, 2, stages=3),
            ),
            points=65536,
            measured=_AS_MIXER,
        ),
        Launch(
            "float32",
            16,
            KernelBlocks(Blocks(64, 128, 4224, 4, stages=3), Blocks(32, 32, 2112, 2, stages=3, group=2)),
            measured=_AS_MIXER,
        ),
        Launch("float32", 32, KernelBlocks(Blocks(32, 64, 1056, 4), Blocks(64, 32, 528, 4))),
        Launch("float32", 64, KernelBlocks(Blocks(32, 32, 528, 4), Blocks(32, 32, 264, 4))),
        Launch("float32", 128, KernelBlocks(Blocks(32, 32, 264, 8), Blocks(16, 16, 264, 4, stages=1))),
    ),
)
