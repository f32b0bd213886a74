"""The table of the causal mixer: what its implementations serve, which one runs where, and how.

`python -m benchmarks.search --op=causal_flare` times other launches and prints them in this form.
"""

from dataclasses import dataclass

from jax.experimental import pallas as pl

from kernels._implementation import Implementation
from kernels._operation import H200, Choice, Launch, Operation
from kernels._target import Target

WIDEST_HEAD = 128
_FASTER_THAN_XLA = (
    "8 x 1024 tokens, D 32, M 64: bfloat16 0.188 ms on one H200, XLA 1.06 on one H100; float32 0.115 on one H200, XLA "
    "1.42; other widths were not measured beside XLA"
)
_KERNEL_DTYPES = ("float32", "bfloat16")
# The XLA form has t² weights per latent for a tile of t tokens: short tiles, many of them.
_TILE_TOKENS = 16
_FEW_LATENTS = 64


@dataclass(frozen=True)
class Blocks:
    """How the kernels are launched.

    A program owns a split of the tokens and at most `latents` latents, and walks in tiles of `tokens` tokens, of
    `long_tokens` where it only sums up; the tokens are split so that about `programs` programs run for all heads.
    `warps` and `stages` are Triton's, `wide_warps` instead where a tile has more than 64 latents. `exact` says how
    float32 tiles are multiplied: "tf32x3" or "ieee".
    """

    tokens: int
    long_tokens: int
    latents: int
    programs: int
    warps: int
    stages: int = 2
    exact: str = "tf32x3"
    wide_warps: int | None = None

    def warps_of(self, latents: int) -> int:
        """Return the warps of a program with a tile of so many latents."""
        return self.wide_warps if self.wide_warps and latents > _FEW_LATENTS else self.warps

    def shared_bytes(self, width: int, item: int) -> int:
        """Return about how many bytes of shared memory a program has: staged tokens and latents, of `item` bytes."""
        return item * width * (2 * self.stages * self.long_tokens + 3 * self.latents)

    def split_tokens(self, tokens: int, heads: int) -> int:
        """Return how many of `tokens` tokens one split has, when `heads` heads of all samples run side by side."""
        longest = max(self.tokens, self.long_tokens)
        tiles = pl.cdiv(tokens, longest)
        return pl.cdiv(tiles, min(tiles, max(1, self.programs // heads))) * longest


OPERATION = Operation(
    "causal_flare",
    implementations=(
        Implementation("reference"),
        Implementation("xla"),
        Implementation("pallas", _KERNEL_DTYPES, WIDEST_HEAD, ("cpu", "cuda", "rocm"), pallas_triton=True),
    ),
    choices=(Choice("pallas", _KERNEL_DTYPES, WIDEST_HEAD, measured=_FASTER_THAN_XLA),),
    launches=(
        Launch("bfloat16", 64, Blocks(32, 64, 128, 264, 4, 3, wide_warps=8), measured=H200),
        Launch("bfloat16", 128, Blocks(32, 64, 64, 264, 8, 3), measured=H200),
        # 8 x 4096 tokens, D 32, 64 latents: forward 0.797 instead of 0.920 ms with the row below, with backward 3.42
        # instead of 3.66.
        Launch("float32", 32, Blocks(16, 128, 64, 528, 4), measured=H200),
        Launch("float32", 64, Blocks(16, 32, 64, 264, 4)),
        Launch("float32", 128, Blocks(16, 16, 16, 264, 8)),
    ),
)

# With blocks, or with stablemax and a write gate: nothing but array code, on every device.
_ARRAY_CODE = (Implementation("reference"), Implementation("xla"))
GATED_STABLEMAX = Operation("stablemax_flare with write_gate", implementations=_ARRAY_CODE)
BLOCKS = Operation("causal_flare with block", implementations=_ARRAY_CODE)


def chunk_sizes(target: Target) -> tuple[int, int, int]:
    """Return the tokens and the latents of a tile of `xla`, and how many weights it holds at once."""
    return _TILE_TOKENS, 128, 2**22 if target.platform == "cpu" else 2**26
