"""The table of the mixer: what its implementations serve, which one runs where, and how its kernels are launched.

`python -m benchmarks.search --op=flare_mixer` times other launches on the GPU at hand and prints them in this form.
"""

from dataclasses import dataclass, replace

from kernels._implementation import Implementation
from kernels._operation import H100, H200, Choice, Launch, Operation
from kernels._tiling import Blocks
from kernels.flare_mixer.mosaic_launch import MosaicBlocks, PairTiles, Tiles

WIDEST_HEAD = 128
# Shared memory holds what Mosaic GPU's kernels keep of wider heads in bfloat16 only.
MOSAIC_HEAD = 64
_KERNEL_DTYPES = ("float32", "bfloat16")
_FASTER_THAN_XLA = "one H200, a million points: 18.5 ms with 512 latents, where XLA takes 40 with 128"


@dataclass(frozen=True)
class KernelBlocks:
    """The launches of the four kernels.

    `pairs` is that of Mosaic GPU's kernel of the operands' gradients, which takes the place of the fourth for keys and
    queries that it serves on GPUs that it was written for; None where it does not. With `compact` no programs of XLA
    stand between the kernels, where one tile of the second and fourth holds all latents (`compact.py`).
    """

    gather: Blocks
    scatter: Blocks
    latent_gradient: Blocks
    operand_gradients: Blocks
    pairs: PairTiles | None = None
    compact: bool = False

    def __post_init__(self) -> None:
        if self.latent_gradient.held or self.operand_gradients.held:
            raise ValueError(
                f"the launches of the gradients are {self.latent_gradient} and {self.operand_gradients}; give them "
                "held=False, for they have no maximum to find"
            )
        four = (self.gather, self.scatter, self.latent_gradient, self.operand_gradients)
        if self.compact and any(x.held or x.joined for x in four):
            raise ValueError(
                f"the launches are {self}; give compact ones held=False and joined=False, which they do not know"
            )


def _mosaic(dtype: str, read: Tiles, slopes: Tiles, pairs: PairTiles | None = None) -> Launch:
    return Launch(dtype, MOSAIC_HEAD, MosaicBlocks(read, slopes, pairs), implementation="mosaic", capability=(9, 0))


def _with_bounds(blocks: KernelBlocks) -> KernelBlocks:
    """Return the launches with a bound of the logits in the place of their maximum, where one is given."""
    forward = {name: replace(getattr(blocks, name), bounded=True) for name in ("gather", "scatter")}
    return replace(blocks, **forward)


def _with_polynomials(blocks: KernelBlocks) -> KernelBlocks:
    """Return the launches with a quarter of the exponentials as polynomials, of the scatter where latents are many.

    One H200, a million points, 128, 512 and 2048 latents: gather 0.446, 1.70 and 6.84 instead of 0.463, 1.75 and 7.11
    ms, latents' gradient 0.379, 1.50 and 5.83 instead of 0.415, 1.56 and 6.01; scatter 0.534 instead of 0.483, but 1.93
    and 7.01 instead of 2.08 and 7.59.
    """
    forward = {name: replace(getattr(blocks, name), polynomial_every=4) for name in ("gather", "latent_gradient")}
    return replace(blocks, scatter=replace(blocks.scatter, polynomial_every=4, polynomial_latents=512), **forward)


def _held(blocks: KernelBlocks) -> KernelBlocks:
    """Return the launches with references in the place of running maxima in the gather and the scatter.

    One H200, a million points, 2048 latents: gather 5.87 instead of 6.79 ms, scatter 6.09 instead of 7.61; whole calls
    with 128, 512 and 2048 latents 2.67, 8.49 and 31.0 instead of 2.76, 8.94 and 32.8.
    """
    forward = {name: replace(getattr(blocks, name), held=True) for name in ("gather", "scatter")}
    return replace(blocks, **forward)


_MANY = KernelBlocks(
    Blocks(64, 128, 2112, 4, stages=3),
    Blocks(128, 128, 1056, 4, stages=3),
    Blocks(64, 256, 4224, 4, stages=3),
    Blocks(32, 32, 1056, 2, stages=3, group=3, one_exponential=True),
    # One H200, a million points, 128, 512 and 2048 latents: 1.99 instead of 2.28, 4.40 instead of 6.17 and 14.2 instead
    # of 23.0 ms; not measured with fewer pairs.
    PairTiles(fewest=128 * 10**6),
)

OPERATION = Operation(
    "flare_mixer",
    implementations=(
        Implementation("reference", merges=False),
        Implementation("xla"),
        Implementation("cudnn", ("float16", "bfloat16"), WIDEST_HEAD, ("cuda",), merges=False, mask_column=True),
        Implementation("pallas", _KERNEL_DTYPES, WIDEST_HEAD, ("cpu", "cuda", "rocm"), pallas_triton=True),
        Implementation("mosaic", _KERNEL_DTYPES, MOSAIC_HEAD, ("cpu", "cuda"), mosaic=True),
    ),
    choices=(
        Choice("pallas", _KERNEL_DTYPES, WIDEST_HEAD),
        # Where Pallas has no Triton lowering.
        Choice("mosaic", ("bfloat16",), 16, fewest=2**19, capability=(9, 0), measured=_FASTER_THAN_XLA),
    ),
    launches=(
        _mosaic("bfloat16", Tiles(stream=64, tiles=2), Tiles(stream=64, operands=3, results=2), PairTiles()),
        _mosaic("float32", Tiles(stream=64, warpgroups=1), Tiles(stream=32, warpgroups=1, operands=3, results=2)),
        Launch(
            "bfloat16",
            16,
            points=2048,
            measured=H100,
            blocks=KernelBlocks(
                Blocks(128, 16, 1, 4), Blocks(64, 64, 528, 4), Blocks(128, 16, 1, 4), Blocks(64, 32, 528, 4)
            ),
        ),
        Launch("bfloat16", 16, replace(_MANY, pairs=None), points=65536, measured=H100),
        # With a bound of FLARE++'s logits 371 instead of 418 and 409 instead of 496 us (a million points, 128 latents),
        # before there were polynomials.
        Launch("bfloat16", 16, _held(_with_bounds(_with_polynomials(_MANY))), measured=H200),
        Launch(
            "bfloat16",
            64,
            blocks=KernelBlocks(
                Blocks(64, 64, 792, 4), Blocks(64, 64, 1056, 4), Blocks(64, 64, 792, 4), Blocks(64, 32, 528, 4)
            ),
        ),
        Launch(
            "bfloat16",
            128,
            blocks=KernelBlocks(
                Blocks(64, 64, 528, 8), Blocks(64, 64, 528, 8), Blocks(64, 64, 528, 8), Blocks(64, 32, 264, 8)
            ),
        ),
        Launch(
            "float32",
            16,
            points=2048,
            measured=H200,
            blocks=KernelBlocks(
                Blocks(64, 32, 264, 4),
                Blocks(64, 64, 528, 4),
                Blocks(32, 64, 264, 4),
                Blocks(32, 64, 264, 4),
                compact=True,
            ),
        ),
        Launch(
            "float32",
            16,
            points=65536,
            measured=H100,
            blocks=KernelBlocks(
                Blocks(128, 64, 1056, 4),
                Blocks(64, 128, 1056, 4),
                Blocks(64, 128, 1056, 4),
                Blocks(32, 32, 1056, 2, stages=3),
            ),
        ),
        Launch(
            "float32",
            16,
            # The first three were chosen on an H100. The last on an H200, a million points, 128, 512 and 2048 latents:
            # 3.86, 11.1 and 41.6 instead of 3.96, 12.3 and 45.5 ms with 32 x 32 in two groups and two exponentials;
            # 44.2 ms at 2048 with these tiles and two. With joined parts 40.6 instead of 41.9 ms there, on another day,
            # and the scatter's tiles of 64 points 10.8 instead of 11.0 with 128.
            measured=H200,
            blocks=KernelBlocks(
                Blocks(64, 128, 4224, 4, stages=3),
                Blocks(64, 128, 2112, 4, stages=3),
                Blocks(64, 128, 4224, 4, stages=3),
                Blocks(64, 64, 2112, 4, stages=3, one_exponential=True, joined=True),
            ),
        ),
        Launch(
            "float32",
            32,
            blocks=KernelBlocks(
                Blocks(32, 64, 1056, 4), Blocks(64, 32, 1056, 4), Blocks(32, 64, 1056, 4), Blocks(64, 32, 528, 4)
            ),
        ),
        Launch(
            "float32",
            64,
            blocks=KernelBlocks(
                Blocks(32, 32, 528, 4), Blocks(64, 32, 528, 4), Blocks(32, 32, 528, 4), Blocks(32, 32, 264, 4)
            ),
        ),
        Launch(
            "float32",
            128,
            blocks=KernelBlocks(
                Blocks(32, 32, 264, 8), Blocks(32, 32, 264, 8), Blocks(32, 32, 264, 8), Blocks(16, 16, 264, 4, stages=1)
            ),
        ),
    ),
)
