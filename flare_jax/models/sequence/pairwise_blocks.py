"""Blocks of sequence models that compare all pairs or triples of tokens: ema and third_order."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flare_jax.layers.feed_forward import FeedForward
from flare_jax.mixers.block import PreNormBlock
from flare_jax.mixers.ema_attention import EmaAttention
from flare_jax.mixers.third_order_attention import ThirdOrderAttention


def ema_block(
    channel_dim: int,
    *,
    num_heads: int | None = None,
    mlp_ratio: float = 4.0,
    ema_impl: str = "scan",
    masked_ema: bool = False,
    act: str | None = None,
    rmsnorm: bool = False,
    attn_drop: float = 0.0,
    proj_drop: float = 0.0,
    dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> PreNormBlock:
    """Return a block of gated attention on a moving average; see `EmaAttention` for the options.

    It has one head whatever `num_heads` says, and `proj_drop` acts in the feed-forward part only, as in the original.
    """
    del num_heads
    att = EmaAttention(
        channel_dim, attn_drop=attn_drop, ema_impl=ema_impl, masked_ema=masked_ema, dtype=dtype, rngs=rngs
    )
    mlp = FeedForward(channel_dim, mlp_ratio=mlp_ratio, act=act, proj_drop=proj_drop, dtype=dtype, rngs=rngs)
    return PreNormBlock(channel_dim, att=att, mlp=mlp, rmsnorm=rmsnorm, dtype=dtype)


def third_order_block(
    channel_dim: int,
    *,
    num_heads: int | None = None,
    third_order_method: str = "third_order",
    mlp_ratio: float = 4.0,
    reference_epsilon: bool = False,
    ignore_mask: bool = False,
    act: str | None = None,
    rmsnorm: bool = False,
    attn_drop: float = 0.0,
    proj_drop: float = 0.0,
    dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> PreNormBlock:
    """Return a block of third-order attention; see `ThirdOrderAttention` for the options."""
    att = ThirdOrderAttention(
        channel_dim,
        num_heads=num_heads,
        third_order_method=third_order_method,
        attn_drop=attn_drop,
        proj_drop=proj_drop,
        reference_epsilon=reference_epsilon,
        ignore_mask=ignore_mask,
        dtype=dtype,
        rngs=rngs,
    )
    mlp = FeedForward(channel_dim, mlp_ratio=mlp_ratio, act=act, proj_drop=proj_drop, dtype=dtype, rngs=rngs)
    return PreNormBlock(channel_dim, att=att, mlp=mlp, rmsnorm=rmsnorm, dtype=dtype)
