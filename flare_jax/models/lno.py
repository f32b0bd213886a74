"""Latent neural operator: tokens to modes and back by the same scores, attention among modes (arXiv 2406.03923)."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_dtype, check_function_features, check_points, check_sizes
from flare_jax.layers.activations import POINTWISE_ACTIVATIONS, find_activation
from flare_jax.layers.dropout import Key
from flare_jax.layers.fan_in_initialization import draw_fan_in_uniform
from flare_jax.layers.feed_forward import FeedForward
from flare_jax.layers.linear import InputLinear, Linear
from flare_jax.layers.padding import zero_padding
from flare_jax.mixers.block import PreNormBlock
from flare_jax.mixers.cross_attention import CrossAttention
from flare_jax.mixers.mode_projection import modes_to_points, points_to_modes
from flare_jax.option_groups import blocks, depth, heads, width
from flare_jax.options import MAX_LATENTS, MAX_WIDTH, Config, option


class Projector(nnx.Module):
    """`output(r)` with `r = act(input x)` and then `r + act(hidden r)` for each of `num_layers` inner layers.

    With `embedding` x are coordinates and the like: the projector computes in float32, and only its result has the
    compute dtype.
    """

    def __init__(
        self,
        in_dim: int,
        hidden_dim: int,
        out_dim: int,
        *,
        num_layers: int,
        act: str,
        embedding: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.dtype = check_dtype(dtype)
        inner = jnp.float32 if embedding else dtype
        self.activation = find_activation(act, POINTWISE_ACTIVATIONS)
        self.input = (
            InputLinear(in_dim, hidden_dim, rngs=rngs)
            if embedding
            else Linear(in_dim, hidden_dim, dtype=inner, rngs=rngs)
        )
        self.hidden = nnx.List([Linear(hidden_dim, hidden_dim, dtype=inner, rngs=rngs) for _ in range(num_layers)])
        self.output = Linear(hidden_dim, out_dim, dtype=inner, rngs=rngs)

    def __call__(self, x: Float[Array, "B N C_in"]) -> Float[Array, "B N C_out"]:
        """Map the last axis."""
        r = self.activation(self.input(x))
        for layer in self.hidden:
            r = r + self.activation(layer(r))
        return self.output(r).astype(self.dtype)


class ModeAttention(CrossAttention):
    """Attention of the modes to themselves, with one linear layer each for queries, keys and values."""

    def __call__(
        self, x: Float[Array, "B M C"], mask: Bool[Array, "B M"] | None = None, key: Key | None = None
    ) -> Float[Array, "B M C"]:
        """Mix the modes; there is no dropout, so that `key` has no effect."""
        return super().__call__(x, x, mask)


@dataclass(frozen=True, kw_only=True)
class LNOConfig(Config):
    """Options of the latent neural operator."""

    channel_dim: int = width(128)
    num_blocks: int = blocks(4, "transformer blocks on the modes")
    num_heads: int = heads(8)
    num_modes: int = option(256, help="modes that the points are projected to", minimum=1, maximum=MAX_LATENTS)
    num_layers_mlp: int = depth(2, "four projectors", minimum=0)
    fun_dim: int | None = option(
        None, help="channels of the observations fx of the call; None: those of x", minimum=1, maximum=MAX_WIDTH
    )
    act: str = option("gelu", help="activation; 'gelu' is the exact form", choices=POINTWISE_ACTIVATIONS)


class LNO(nnx.Module):
    """Latent neural operator of cost O(N·M) with `num_modes` modes and `num_blocks` transformer blocks on them.

    The scores come from the points x, the values from observations `fx` at the same points, whose width is `fun_dim`
    (None: that of x). Without `fx` the observations are x itself. `dtype` is the compute
    dtype. Raises ValueError if `num_heads` does not divide `channel_dim`.
    """

    def __init__(self, in_dim: int, out_dim: int, config: LNOConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        check_sizes(in_dim=in_dim, out_dim=out_dim)
        channel_dim, act = config.channel_dim, config.act
        self.in_dim = in_dim
        self.fun_dim = in_dim if config.fun_dim is None else config.fun_dim
        self.dtype = check_dtype(dtype)

        def projector(inputs: int, outputs: int, *, embedding: bool = False) -> Projector:
            return Projector(
                inputs,
                channel_dim,
                outputs,
                num_layers=config.num_layers_mlp,
                act=act,
                embedding=embedding,
                dtype=dtype,
                rngs=rngs,
            )

        def make_block() -> PreNormBlock:
            mlp = FeedForward(
                channel_dim, mlp_ratio=2.0, act=act, activations=POINTWISE_ACTIVATIONS, dtype=dtype, rngs=rngs
            )
            att = ModeAttention(channel_dim, num_heads=config.num_heads, dtype=dtype, rngs=rngs)
            return PreNormBlock(channel_dim, att=att, mlp=mlp, dtype=dtype)

        self.trunk_projector = projector(in_dim, channel_dim, embedding=True)
        self.branch_projector = projector(self.fun_dim, channel_dim, embedding=True)
        self.attention_projector = projector(channel_dim, config.num_modes)
        self.blocks = nnx.List([make_block() for _ in range(config.num_blocks)])
        self.out_mlp = projector(channel_dim, out_dim)
        draw_fan_in_uniform(self, rngs)

    def __call__(
        self,
        x: Float[Array, "B N C_in"],
        mask: Bool[Array, "B N"] | None = None,
        *,
        fx: Float[Array, "B N C_fx"] | None = None,
    ) -> Float[Array, "B N C_out"]:
        """Return the prediction in float32 at the points x from the observations `fx` there (x itself if None).

        Padded points (`mask` False) influence no real point, whatever they hold; their own outputs are meaningless.
        Raises ValueError if `x` is not [B, N, in_dim], `mask` not a bool array [B, N] or `fx` not [B, N, fun_dim].
        """
        check_points(x, mask, self.in_dim)
        if fx is not None or self.fun_dim != self.in_dim:
            check_function_features(fx, x.shape, self.fun_dim)
        y = x if fx is None else fx
        x, y = zero_padding(x, mask), zero_padding(y, mask)
        scores = self.attention_projector(self.trunk_projector(x))
        z = points_to_modes(scores, self.branch_projector(y), mask)
        for block in self.blocks:
            z = block(z)
        return self.out_mlp(modes_to_points(scores, z)).astype(jnp.float32)
