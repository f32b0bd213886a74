"""Linformer: attention to keys and values compressed along the sequence (arXiv 2006.04768)."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.layers.dropout import Key, dropout, split_key
from flare_jax.layers.initializers import normal
from flare_jax.layers.linear import Linear
from flare_jax.layers.rotary import RotaryEmbedding
from flare_jax.mixers.attention import softmax_attention
from flare_jax.mixers.block import PreNormBlock, feed_forward
from flare_jax.mixers.heads import check_attention_heads, heads_then_parts, merge_heads
from flare_jax.option_groups import TransformerBlockConfig
from flare_jax.options import MAX_LATENTS, MAX_POINTS, option
from flare_jax.params import Matrix


@dataclass(frozen=True, kw_only=True)
class LinformerConfig(TransformerBlockConfig):
    """Options of Linformer attention and the block around it."""

    seq_len: int = option(help="largest number of points or tokens", minimum=1, maximum=MAX_POINTS)
    k: int = option(256, help="keys and values after the compression", minimum=1, maximum=MAX_LATENTS)
    masked: bool = option(True, help="leave padding out of the sums; False refuses masks, as the original does")


class LinformerAttention(nnx.Module):
    """Token mixer of cost O(N·k): softmax attention to `k` weighted sums of the keys and values, scale 1/√D.

    The weights `E_k` and `E_v` [seq_len, k], shared by the heads and ~ Normal(0, 1/D), belong to positions: only their
    first N rows are used, and the order of the points matters. The output columns of `qkv_proj` are heads, each with
    its q, k and v.
    """

    def __init__(
        self,
        channel_dim: int,
        config: LinformerConfig,
        *,
        rope: RotaryEmbedding | None = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.num_heads, self.head_dim = check_attention_heads(channel_dim, config.num_heads, rope)
        self.masked = config.masked
        self.rope = rope
        self.attn_drop, self.proj_drop = config.attn_drop, config.proj_drop
        initialize = normal(self.head_dim**-0.5)
        self.qkv_proj = Linear(channel_dim, 3 * channel_dim, dtype=dtype, rngs=rngs)
        self.E_k = Matrix(initialize(rngs.params(), (config.seq_len, config.k)))
        self.E_v = Matrix(initialize(rngs.params(), (config.seq_len, config.k)))
        self.out_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None, key: Key | None = None
    ) -> Float[Array, "B N C"]:
        """Mix the points; with a mask a padded point receives the bias of `out_proj`."""
        self._check_call(x.shape[1], mask)
        attn_key, proj_key = split_key(key, 2)
        q, k, v = heads_then_parts(self.qkv_proj(x), self.num_heads)
        if self.rope is not None:
            q, k = self.rope(q), self.rope(k)
        k, v = _compress(k, self.E_k[...], mask), _compress(v, self.E_v[...], mask)
        y = softmax_attention(q, k, v, scale=self.head_dim**-0.5, drop_rate=self.attn_drop, key=attn_key)
        if mask is not None:
            y = jnp.where(mask[:, :, None, None], y, 0)
        return dropout(self.out_proj(merge_heads(y)), self.proj_drop, proj_key)

    def _check_call(self, length: int, mask: Bool[Array, "B N"] | None) -> None:
        longest = self.E_k.shape[0]
        if length > longest:
            raise ValueError(
                f"x has {length} points but seq_len is {longest}; "
                "pass fewer points or build the model with a larger seq_len"
            )
        if mask is not None and not self.masked:
            raise ValueError(
                "linformer takes no mask of padded points, because its sums run over all positions; "
                "pass samples of equal length without a mask, or set masked=True to leave padding out of the sums"
            )


def _compress(
    x: Float[Array, "B N H D"], weights: Float[Array, "_ M"], mask: Bool[Array, "B N"] | None
) -> Float[Array, "B M H D"]:
    """Return the sums of x over the real points with the first N rows of the weights."""
    if mask is not None:
        x = jnp.where(mask[:, :, None, None], x, 0)
    rows = weights[: x.shape[1]].astype(x.dtype)
    return jnp.einsum("nm,bnhd->bmhd", rows, x, preferred_element_type=jnp.float32).astype(x.dtype)


class LinformerBlock(PreNormBlock):
    """Pre-norm block of Linformer attention and a feed-forward part."""

    def __init__(
        self,
        channel_dim: int,
        config: LinformerConfig,
        *,
        rope: RotaryEmbedding | None = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        att = LinformerAttention(channel_dim, config, rope=rope, dtype=dtype, rngs=rngs)
        mlp = feed_forward(channel_dim, config, dtype=dtype, rngs=rngs)
        super().__init__(channel_dim, att=att, mlp=mlp, rmsnorm=config.rmsnorm, dtype=dtype)
