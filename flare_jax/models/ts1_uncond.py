"""TS1, a precursor of FLARE with learned slice queries; no paper describes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_dtype, check_points, check_sizes
from flare_jax.layers.activations import TS1_ACTIVATIONS, Activation
from flare_jax.layers.dropout import Key
from flare_jax.layers.linear import Linear
from flare_jax.layers.norms import LayerNorm
from flare_jax.layers.padding import zero_padding
from flare_jax.layers.pointwise_mlp import PointwiseMLP
from flare_jax.mixers.learned_slice_attention import DroppedSliceConfig, LearnedSliceAttention, SliceStatistics
from flare_jax.models.slice_stack import SliceBlock
from flare_jax.models.stack import ResidualStack
from flare_jax.option_groups import blocks, ratio, width
from flare_jax.options import Config, option


@dataclass(frozen=True, kw_only=True)
class LearnedSliceStackConfig(Config):
    """Options of the embedding and the feed-forward parts of TS1 and TS3."""

    channel_dim: int = width(128)
    num_blocks: int = blocks(5)
    mlp_ratio: float = ratio(1.0, "feed-forward part")


@dataclass(frozen=True, kw_only=True)
class TS1Config(DroppedSliceConfig, LearnedSliceStackConfig):
    """Options of TS1."""

    act: str | None = option(None, help="activation; 'gelu' and None: the exact GELU", choices=TS1_ACTIVATIONS)


class LearnedSliceStack(ResidualStack):
    """Embedding MLP, one block per mixer in `mixers`, norm and linear head: the forward pass of TS1 and TS3.

    `activations` gives the meaning of the names in `act` to the embedding and the feed-forward parts.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        config: LearnedSliceStackConfig,
        *,
        mixers: Sequence[nnx.Module],
        activations: Mapping[str | None, Activation],
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_sizes(in_dim=in_dim, out_dim=out_dim)
        channel_dim, act = config.channel_dim, config.act
        self.in_dim = in_dim
        self.dtype = check_dtype(dtype)
        self.x_embedding = PointwiseMLP(
            in_dim,
            2 * channel_dim,
            channel_dim,
            act=act,
            activations=activations,
            embedding=True,
            dtype=dtype,
            rngs=rngs,
        )
        self.blocks = nnx.List(
            [
                SliceBlock(
                    channel_dim,
                    att=mixer,
                    mlp_ratio=config.mlp_ratio,
                    act=act,
                    activations=activations,
                    dtype=dtype,
                    rngs=rngs,
                )
                for mixer in mixers
            ]
        )
        self.norm = LayerNorm(channel_dim, dtype=dtype)
        self.head = Linear(channel_dim, out_dim, dtype=dtype, rngs=rngs)

    def embed(self, x: Array, mask: Array | None) -> Float[Array, "B N C"]:
        """Check the inputs of the call and return the embedded points."""
        check_points(x, mask, self.in_dim)
        return self.x_embedding(zero_padding(x, mask))

    def predict(self, x: Float[Array, "B N C"]) -> Float[Array, "B N C_out"]:
        """Return the prediction in float32 of the points after the last block."""
        return self.head(self.norm(x)).astype(jnp.float32)


class TS1Uncond(LearnedSliceStack):
    """TS1: points gather into slices by a softmax over learned queries, slices attend to each other, points read back.

    `dtype` is the compute dtype. Raises ValueError if `num_heads` does not divide `channel_dim`.
    """

    def __init__(self, in_dim: int, out_dim: int, config: TS1Config, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        mixers = [
            LearnedSliceAttention(config.channel_dim, config, dtype=dtype, rngs=rngs) for _ in range(config.num_blocks)
        ]
        super().__init__(in_dim, out_dim, config, mixers=mixers, activations=TS1_ACTIVATIONS, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "B N C_in"],
        mask: Bool[Array, "B N"] | None = None,
        *,
        key: Key | None = None,
        return_stats: bool = False,
    ) -> Float[Array, "B N C_out"] | tuple[Float[Array, "B N C_out"], tuple[SliceStatistics, ...]]:
        """Return the prediction in float32, with `return_stats` also the slice statistics of every block.

        Padded points (`mask` False) influence no real point, whatever they hold; their own outputs are meaningless.
        `key` is for dropout (None: evaluation). Raises ValueError if `x` is not [B, N, in_dim] or `mask` not a bool
        array [B, N].
        """
        observe = (lambda block, x, *_: block.att.statistics(block.norm1(x), mask)) if return_stats else None
        x, statistics = self.apply_blocks(self.embed(x, mask), mask, key, observe=observe)
        return (self.predict(x), statistics) if return_stats else self.predict(x)
