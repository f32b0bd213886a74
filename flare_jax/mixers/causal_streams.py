"""What all causal mixers share: where tokens stand in their sequences, options, short convolutions that can go on."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from flare_jax.checks import check_dtype, check_head_dim
from flare_jax.layers.initializers import LINEAR_STD, normal
from flare_jax.option_groups import recomputed
from flare_jax.options import MAX_BLOCKS, MAX_HEADS, MAX_WIDTH, Config, option

CONVOLUTION_WIDTH = 4


class Places(NamedTuple):
    """Where tokens stand: position in their document `[B, N]`, documents begun so far, lengths `[B]` of what is real.

    `documents` `[B, N]` is None where the tokens are of one document, `lengths` where all are real. What is not real
    comes last, and changes neither the real tokens nor any state.
    """

    positions: Int[Array, "B N"]
    documents: Int[Array, "B N"] | None = None
    lengths: Int[Array, "B"] | None = None

    @property
    def mask(self) -> Bool[Array, "B N"] | None:
        """Which tokens are real, None where all are."""
        if self.lengths is None:
            return None
        return jnp.arange(self.positions.shape[1]) < self.lengths[:, None]

    @property
    def starts(self) -> Bool[Array, "B N"] | None:
        """Which tokens begin a document after the first, None where there is one document."""
        if self.documents is None:
            return None
        return jnp.diff(self.documents, axis=1, prepend=0) > 0


@dataclass(frozen=True, kw_only=True)
class DecoderConfig(Config):
    """Options of a causal decoder that do not depend on its mixer."""

    channel_dim: int = option(help="width of the residual stream", minimum=1, maximum=MAX_WIDTH)
    num_blocks: int = option(help="blocks", minimum=1, maximum=MAX_BLOCKS)
    num_heads: int = option(help="heads of the mixer", minimum=1, maximum=MAX_HEADS)
    mlp_width: int | None = option(
        None, help="width of the gated MLP; None takes 8/3 of channel_dim, rounded up to 256", minimum=1,
        maximum=MAX_WIDTH * 8,
    )  # fmt: skip
    tie: bool = option(True, help="the embedding is the output matrix, too")
    short_conv: bool = option(False, help="causal convolution of width 4 after the input maps of the mixer")
    dropout: float = option(0.0, help="rate of dropout of both residual branches", minimum=0, below=1)
    norm_epsilon: float = option(1e-6, help="epsilon of all norms", above=0)
    residual_scale: bool = option(False, help="divide initial output maps by the root of twice the blocks")
    remat: bool = recomputed()

    def check_together(self) -> None:
        super().check_together()
        check_head_dim(self.channel_dim, self.num_heads)

    @property
    def head_dim(self) -> int:
        """Channels of a head."""
        return self.channel_dim // self.num_heads

    @property
    def hidden_width(self) -> int:
        """Width of the gated MLP."""
        return 256 * -(-int(8 * self.channel_dim / 3) // 256) if self.mlp_width is None else self.mlp_width


class ShortConvolution(nnx.Module):
    """`silu(Σ_j kernel_j x_{n+j−3})` per channel over 4 taps, of one document, without bias.

    `kernel` [C, 4] ~ Normal(0, 0.02²), with 1 added to the last tap: before the activation it is almost the identity at
    first. The first `delayed` channels have the 1 at the tap before, and start as those of the token before.
    """

    def __init__(self, channel_dim: int, *, delayed: int = 0, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.dtype = check_dtype(dtype)
        kernel = normal(LINEAR_STD)(rngs.params(), (channel_dim, CONVOLUTION_WIDTH))
        self.kernel = nnx.Param(kernel.at[:delayed, -2].add(1.0).at[delayed:, -1].add(1.0))

    def init_tail(self, batch: int) -> Float[Array, "B 3 C"]:
        """Return the inputs before the first token: zeros."""
        return jnp.zeros((batch, CONVOLUTION_WIDTH - 1, self.kernel.shape[0]), self.dtype)

    def __call__(
        self, x: Float[Array, "B N C"], places: Places, tail: Float[Array, "B 3 C"]
    ) -> tuple[Float[Array, "B N C"], Float[Array, "B 3 C"]]:
        """Return the filtered tokens and the last three inputs, with which the next tokens go on."""
        before, length = CONVOLUTION_WIDTH - 1, x.shape[1]
        padded = jnp.concatenate((tail.astype(x.dtype), x), axis=1)
        taps = self.kernel[...].astype(x.dtype)
        documents = places.documents
        if documents is not None:
            documents = jnp.pad(documents, ((0, 0), (before, 0)))
        y = 0.0
        for tap in range(CONVOLUTION_WIDTH):
            moved = padded[:, tap : tap + length]
            if documents is not None:
                moved = jnp.where((documents[:, tap : tap + length] == documents[:, before:])[..., None], moved, 0)
            y = y + moved * taps[:, tap]
        return jax.nn.silu(y), self._last(padded, documents, places)

    def _last(self, padded: jax.Array, documents: jax.Array | None, places: Places) -> jax.Array:
        """Return the last three real inputs, zeros for those of earlier documents."""
        before, length = CONVOLUTION_WIDTH - 1, padded.shape[1] - CONVOLUTION_WIDTH + 1
        ends = jnp.full(padded.shape[0], length) if places.lengths is None else places.lengths
        rows = ends[:, None] + jnp.arange(before)
        last = jnp.take_along_axis(padded, rows[..., None], axis=1)
        if documents is not None:
            own = jnp.take_along_axis(documents, rows, axis=1)
            last = jnp.where((own == own[:, -1:])[..., None], last, 0)
        return last.astype(self.dtype)


def make_convolutions(
    names: tuple[str, ...], config: DecoderConfig, widths: dict[str, int], dtype: DTypeLike, rngs: nnx.Rngs
) -> dict[str, ShortConvolution | None]:
    """Return a convolution for each stream, None without `short_conv`.

    In the first half of the heads keys start as those of the token before: what is kept under a key is what came after
    it. Recall needs that, and keys that start at their own token have to find it together with what reads them, which
    takes long.
    """
    if not config.short_conv:
        return dict.fromkeys(names)
    heads = config.num_heads
    delayed = {name: widths[name] // heads * -(-heads // 2) if name == "k" else 0 for name in names}
    return {name: ShortConvolution(widths[name], delayed=delayed[name], dtype=dtype, rngs=rngs) for name in names}


def filter_streams(
    streams: dict[str, jax.Array],
    convolutions: dict[str, ShortConvolution | None],
    places: Places,
    tails: dict[str, jax.Array] | None,
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Return the streams after their convolutions and the tails with which they go on; None starts from nothing."""
    filtered, last = {}, {}
    for name, x in streams.items():
        convolution = convolutions[name]
        if convolution is None:
            filtered[name] = x
            continue
        tail = convolution.init_tail(x.shape[0]) if tails is None else tails[name]
        filtered[name], last[name] = convolution(x, places, tail)
    return filtered, last
