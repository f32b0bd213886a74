"""Perceiver IO: cross-attention into a latent array, transformer blocks, cross-attention out (arXiv 2107.14795)."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_dtype, check_points, check_sizes
from flare_jax.layers.activations import RESIDUAL_MLP_ACTIVATIONS, find_activation
from flare_jax.layers.feed_forward import FeedForward
from flare_jax.layers.initializers import normal
from flare_jax.layers.norms import LayerNorm
from flare_jax.layers.output_projection import OutputProjection
from flare_jax.layers.padding import zero_padding
from flare_jax.layers.residual_mlp import ResidualMLP
from flare_jax.mixers.block import PreNormBlock
from flare_jax.mixers.cross_attention import CrossAttention, CrossAttentionBlock
from flare_jax.mixers.self_attention import SelfAttention, SelfAttentionConfig
from flare_jax.option_groups import blocks, heads, latent_count, mlp_kernel, ratio, width
from flare_jax.options import Config, option

_IN_OUT_LAYERS = 2


class LatentEncoder(nnx.Module):
    """The learned latents, without norm or projection, gather from the normalised points; there is no residual."""

    def __init__(
        self, channel_dim: int, *, num_heads: int, num_latents: int, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ):
        self.latent_q = nnx.Param(normal(1.0)(rngs.params(), (num_latents, channel_dim)))
        self.norm = LayerNorm(channel_dim, dtype=dtype)
        self.att = CrossAttention(channel_dim, num_heads=num_heads, query_proj=False, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None) -> Float[Array, "B M C"]:
        """Return the latents of every sample."""
        latents = jnp.broadcast_to(self.latent_q[...], (x.shape[0], *self.latent_q.shape)).astype(x.dtype)
        return self.att(latents, self.norm(x), mask)


class PointDecoder(nnx.Module):
    """Every point gathers from the normalised latents; there is no residual with the points."""

    def __init__(self, channel_dim: int, *, num_heads: int, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.norm_latents = LayerNorm(channel_dim, dtype=dtype)
        self.norm_points = LayerNorm(channel_dim, dtype=dtype)
        self.att = CrossAttention(channel_dim, num_heads=num_heads, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "B N C"], latents: Float[Array, "B M C"]) -> Float[Array, "B N C"]:
        """Return the features of every point."""
        return self.att(self.norm_points(x), self.norm_latents(latents))


@dataclass(frozen=True, kw_only=True)
class PerceiverIOConfig(Config):
    """Options of Perceiver IO."""

    channel_dim: int = width(64)
    num_blocks: int = blocks(8)
    num_heads: int = heads(8)
    num_latents: int = latent_count(128, "latents that gather from all points")
    mlp_ratio: float = ratio(4.0, "feed-forward part")
    act: str | None = option(
        None, help="activation; 'gelu' and None: the tanh form everywhere", choices=RESIDUAL_MLP_ACTIVATIONS
    )
    cross_attn: bool = option(False, help="the blocks attend to the embedded points instead of the latents")
    mlp_implementation: str | None = mlp_kernel("the residual MLPs at both ends")


class PerceiverIO(nnx.Module):
    """Perceiver IO of cost O(N·M) with `num_latents` latents and `num_blocks` transformer blocks on them.

    `dtype` is the compute dtype. Raises ValueError if `num_heads` does not divide `channel_dim`.
    """

    def __init__(
        self, in_dim: int, out_dim: int, config: PerceiverIOConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ):
        check_sizes(in_dim=in_dim, out_dim=out_dim)
        channel_dim, num_heads, act = config.channel_dim, config.num_heads, config.act
        among_latents = SelfAttentionConfig(num_heads=num_heads)
        self.in_dim = in_dim
        self.dtype = check_dtype(dtype)
        # In this model gelu means the tanh form everywhere.
        latent_act = find_activation(act, RESIDUAL_MLP_ACTIVATIONS)

        def make_block() -> PreNormBlock | CrossAttentionBlock:
            if config.cross_attn:
                return CrossAttentionBlock(
                    channel_dim,
                    num_heads=num_heads,
                    mlp_ratio=config.mlp_ratio,
                    act=latent_act,
                    use_bias=False,
                    dtype=dtype,
                    rngs=rngs,
                )
            return PreNormBlock(
                channel_dim,
                att=SelfAttention(channel_dim, among_latents, qkv_bias=False, dtype=dtype, rngs=rngs),
                mlp=FeedForward(channel_dim, mlp_ratio=config.mlp_ratio, act=latent_act, dtype=dtype, rngs=rngs),
                dtype=dtype,
            )

        self.in_proj = ResidualMLP(
            in_dim,
            channel_dim,
            channel_dim,
            num_layers=_IN_OUT_LAYERS,
            act=act,
            input_residual=False,
            embedding=True,
            dtype=dtype,
            implementation=config.mlp_implementation,
            rngs=rngs,
        )
        self.encoder = LatentEncoder(
            channel_dim, num_heads=num_heads, num_latents=config.num_latents, dtype=dtype, rngs=rngs
        )
        self.blocks = nnx.List([make_block() for _ in range(config.num_blocks)])
        self.decoder = PointDecoder(channel_dim, num_heads=num_heads, dtype=dtype, rngs=rngs)
        self.out_proj = OutputProjection(
            channel_dim,
            channel_dim,
            out_dim,
            num_layers=_IN_OUT_LAYERS,
            act=act,
            dtype=dtype,
            implementation=config.mlp_implementation,
            rngs=rngs,
        )

    def __call__(
        self, x: Float[Array, "B N C_in"], mask: Bool[Array, "B N"] | None = None
    ) -> Float[Array, "B N C_out"]:
        """Return the prediction in float32.

        Padded points (`mask` False) influence no real point, whatever they hold; their own outputs are meaningless.
        Raises ValueError if `x` is not [B, N, in_dim] or `mask` not a bool array [B, N].
        """
        check_points(x, mask, self.in_dim)
        x = self.in_proj(zero_padding(x, mask))
        z = self.encoder(x, mask)
        for block in self.blocks:
            z = block(z, x, mask) if isinstance(block, CrossAttentionBlock) else block(z)
        return self.out_proj(self.decoder(x, z)).astype(jnp.float32)
