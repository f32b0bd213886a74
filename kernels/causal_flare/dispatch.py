"""The tables: device, dtype and shape to the implementation that runs and to the launch of its kernels."""

from dataclasses import dataclass

from jax.experimental import pallas as pl

from kernels._pallas import platform

IMPLEMENTATIONS = ("reference", "xla", "pallas")
WIDEST_HEAD = 128
# Weights of the prefix softmaxes of tiles of t tokens take t² numbers per latent: short tiles, many of them.
TILE_TOKENS = 16


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
    """How the kernels are launched.

    A program owns a split of the tokens and at most `latents` latents, and walks in tiles of `tokens` tokens, of
    `long_tokens` where it only sums up; the tokens are split so that about `programs` programs run for all heads.
    `warps` and `stages` are Triton's. `exact` says how float32 tiles are multiplied: "tf32x3" or "ieee".
    """

    tokens: int
    long_tokens: int
    latents: int
    programs: int
    warps: int
    stages: int = 2
    exact: str = "tf32x3"

    def split_tokens(self, tokens: int, heads: int) -> int:
        """Return how many of `tokens` tokens one split has, when `heads` heads of all samples run side by side."""
        longest = max(self.tokens, self.long_tokens)
        tiles = pl.cdiv(tokens, longest)
        return pl.cdiv(tiles, min(tiles, max(1, self.programs // heads))) * longest


@dataclass(frozen=True)
class Launch:
    """The launch for one dtype and head widths up to `width`."""

    dtype: str
    width: int
    blocks: Blocks


# The first row that fits decides. `python -m benchmarks.search --op=causal_flare` times other launches.
LAUNCHES = (
    Launch("bfloat16", 64, Blocks(TILE_TOKENS, 64, 32, 264, 8)),
    Launch("bfloat16", 128, Blocks(TILE_TOKENS, 32, 32, 264, 8)),
    Launch("float32", 64, Blocks(TILE_TOKENS, 32, 32, 264, 8)),
    Launch("float32", 128, Blocks(TILE_TOKENS, 16, 16, 264, 8)),
)


def kernel_blocks(dtype: str, width: int) -> Blocks:
    """Return the launch of the Pallas kernels; `width` is the largest of all head widths."""
    return next(row.blocks for row in LAUNCHES if row.dtype == dtype and width <= row.width)


def chunk_sizes() -> tuple[int, int, int]:
    """Return the tokens and the latents of a tile of `xla`, and how many weights it holds at once."""
    return TILE_TOKENS, 128, 2**22 if platform() == "cpu" else 2**26


def resolve(implementation: str | None, dtype: str, width: int) -> str:
    """Return the implementation to run, or raise ValueError where a named one cannot serve the request."""
    if implementation is None:
        return _choose(dtype, width)
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"implementation is {implementation!r}; give one of {', '.join(IMPLEMENTATIONS)}, or None to choose one."
        )
    if implementation == "pallas":
        _check_pallas(dtype, width)
    return implementation


def _choose(dtype: str, width: int) -> str:
    fitting = (
        row.implementation
        for row in CHOICES
        if row.platform == platform() and dtype in row.dtypes and width <= row.width
    )
    return next(fitting, "xla")


def _check_pallas(dtype: str, width: int) -> None:
    if dtype not in {row.dtype for row in LAUNCHES}:
        raise ValueError(f"implementation 'pallas' takes float32 or bfloat16, not {dtype}; use implementation 'xla'.")
    if width > WIDEST_HEAD:
        raise ValueError(
            f"implementation 'pallas' takes head widths up to {WIDEST_HEAD}, not {width}; use 'xla' instead."
        )
    if platform() == "tpu":
        raise ValueError("implementation 'pallas' needs an NVIDIA GPU, and this is a TPU; use implementation 'xla'.")
