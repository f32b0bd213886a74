"""FLARE, a neural PDE surrogate of cost O(N·M) on any set of points (arXiv 2508.12594)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_points, scaled_width
from flare_jax.layers.dropout import Key
from flare_jax.layers.norms import RMS_NORM_EPSILON, LayerNorm, RMSNorm, make_norm
from flare_jax.layers.residual_mlp import ResidualMLP
from flare_jax.layers.rotary import RotaryEmbedding
from flare_jax.mixers.flare_attention import FlareAttention, FlareAttentionConfig, TiedKeyValueConfig
from flare_jax.mixers.routing_latents import RoutingLatents
from flare_jax.mixers.synthesized_routing import SynthesizedRouting
from flare_jax.models.pieces import check_alone, predict_in_pieces
from flare_jax.models.stack import ProjectedStack, ProjectedStackConfig
from flare_jax.option_groups import blocks, depth, ratio
from flare_jax.options import Config


@dataclass(frozen=True, kw_only=True)
class FLAREFeedForwardConfig(Config):
    """Options of the feed-forward part of a FLARE block."""

    num_layers_ffn: int = depth(3, "feed-forward part")
    ffn_mlp_ratio: float = ratio(1.0, "feed-forward part", unless=("num_layers_ffn", -1))


@dataclass(frozen=True, kw_only=True)
class FLAREConfig(FLAREFeedForwardConfig, FlareAttentionConfig, ProjectedStackConfig):
    """Options of FLARE."""

    num_passes: int = blocks(1, "times that the stack of blocks is applied, with the same weights")


@dataclass(frozen=True, kw_only=True)
class TiedFLAREConfig(FLAREFeedForwardConfig, TiedKeyValueConfig, ProjectedStackConfig):
    """Options of FLARE with one depth and one width of key and value MLPs, as in its ablations and variants."""

    num_passes: int = blocks(1, "times that the stack of blocks is applied, with the same weights")


@dataclass(frozen=True, kw_only=True)
class TokenFLAREConfig(FLAREFeedForwardConfig, TiedKeyValueConfig):
    """Options of FLARE as a block of sequence models."""


class FLAREApplication:
    """What a block of norms, a mixer and a feed-forward part does: `x + att(norm1 x)`, then `x + mlp(norm2 x)`."""

    norm1: LayerNorm | RMSNorm
    att: FlareAttention | SynthesizedRouting
    norm2: LayerNorm | RMSNorm
    mlp: ResidualMLP

    def __call__(
        self,
        x: Float[Array, "B N C"],
        mask: Bool[Array, "B N"] | None = None,
        key: Key | None = None,
        latents: RoutingLatents | None = None,
    ) -> Float[Array, "B N C"]:
        """Apply the block: a fused kernel for keys and values, the mixer, a fused kernel for all the rest.

        `latents` are those of a mixer of FLARE++, where they have been made for all blocks at once.
        """
        if key is not None and (self.att.attn_drop or self.att.proj_drop):
            # Dropout of the mixer's output stands between what the last kernel would fuse.
            x = x + self.att(self.norm1(x), mask, key)
            return self.mlp(x, norm=self.norm2, outer_residual=True)
        given = {} if latents is None else {"latents": latents}
        mixed = self.att.mix(x, mask, norm=self.norm1, **given)
        return self.mlp(mixed, projection=self.att.out_proj, skip=x, norm=self.norm2, outer_residual=True)

    def scores(self, x: Float[Array, "B N C"]) -> Float[Array, "B H M N"]:
        """Return the scaled attention logits of the block for its input."""
        return self.att.scores(self.norm1(x))


class FLAREBlock(FLAREApplication, nnx.Module):
    """Pre-norm block that owns its parts."""

    def __init__(
        self,
        channel_dim: int,
        *,
        att: nnx.Module,
        mlp: ResidualMLP,
        rmsnorm: bool = False,
        rms_epsilon: float = RMS_NORM_EPSILON,
        dtype: DTypeLike = jnp.float32,
    ):
        norm = {"rmsnorm": rmsnorm, "rms_epsilon": rms_epsilon, "dtype": dtype}
        self.norm1 = make_norm(channel_dim, **norm)
        self.att = att
        self.norm2 = make_norm(channel_dim, **norm)
        self.mlp = mlp


def flare_block(
    channel_dim: int,
    config: FLAREConfig | TiedFLAREConfig | TokenFLAREConfig,
    *,
    rope: RotaryEmbedding | None = None,
    dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> FLAREBlock:
    """Return the FLARE block that the options describe; `rope` gives the keys their positions in a sequence."""
    att = FlareAttention(channel_dim, config, rope=rope, dtype=dtype, rngs=rngs)
    mlp = flare_feed_forward(channel_dim, config, dtype=dtype, rngs=rngs)
    return FLAREBlock(channel_dim, att=att, mlp=mlp, rmsnorm=config.rmsnorm, dtype=dtype)


def flare_feed_forward(
    channel_dim: int, config: FLAREFeedForwardConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
) -> ResidualMLP:
    """Return the feed-forward part of a FLARE block; `config` has those of the mixer too."""
    return ResidualMLP(
        channel_dim,
        scaled_width("ffn_mlp_ratio", channel_dim, config.ffn_mlp_ratio),
        channel_dim,
        num_layers=config.num_layers_ffn,
        act=config.act,
        dtype=dtype,
        implementation=config.mlp_implementation,
        rngs=rngs,
    )


class FLAREStack(ProjectedStack):
    """A stack whose blocks have attention scores, applied `num_passes` times in a row."""

    config: FLAREConfig | TiedFLAREConfig

    def applications(self) -> Sequence[Callable[..., Array]]:
        """Return the blocks, all of them as often as there are passes."""
        return list(self.blocks) * self.config.num_passes

    def __call__(
        self,
        x: Float[Array, "B N C_in"],
        mask: Bool[Array, "B N"] | None = None,
        *,
        key: Key | None = None,
        return_scores: bool = False,
        points_per_piece: int | None = None,
    ) -> Float[Array, "B N C_out"] | tuple[Float[Array, "B N C_out"], tuple[Float[Array, "B H M N"], ...]]:
        """Return the prediction in float32, with `return_scores` also the scaled logits of every applied block.

        Padded points (`mask` False) influence no real point, whatever they hold; their own outputs are meaningless.
        `key` is for dropout (None: evaluation). With `points_per_piece` blocks work on so many points at a time, for
        the same prediction in less memory, without dropout. Raises ValueError if `x` is not [B, N, in_dim] or `mask`
        not a bool array [B, N], for pieces of models without, and for pieces with `return_scores`.
        """
        if points_per_piece is not None:
            check_alone(points_per_piece, return_scores=return_scores)
            check_points(x, mask, self.in_dim)
            return predict_in_pieces(self, x, mask, points_per_piece)
        observe = (lambda block, x, *_: block.scores(x)) if return_scores else None
        x, scores = self.apply_blocks(self.embed(x, mask), mask, key, observe=observe)
        return (self.predict(x), scores) if return_scores else self.predict(x)


class FLARE(FLAREStack):
    """FLARE model: every block has its own latents, keys and values from residual MLPs; see `FLAREConfig`.

    `dtype` is the compute dtype. Raises ValueError if `num_heads` does not divide `channel_dim`.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        config: FLAREConfig | TiedFLAREConfig,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        width = config.channel_dim
        blocks = (flare_block(width, config, dtype=dtype, rngs=rngs) for _ in range(config.num_blocks))
        super().__init__(in_dim, out_dim, config, blocks=blocks, dtype=dtype, rngs=rngs)
