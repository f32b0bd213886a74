"""Softmax self-attention and the transformer block around it (Vaswani et al., arXiv 1706.03762)."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.layers.dropout import Key, dropout, split_key
from flare_jax.layers.linear import Linear
from flare_jax.layers.norms import LayerNorm, RMSNorm
from flare_jax.layers.rotary import RotaryEmbedding
from flare_jax.mixers.attention import IMPLEMENTATIONS, check_attention, self_attention
from flare_jax.mixers.block import PreNormBlock, feed_forward
from flare_jax.mixers.heads import check_attention_heads, merge_heads, parts_then_heads
from flare_jax.option_groups import TransformerBlockConfig
from flare_jax.options import option


@dataclass(frozen=True, kw_only=True)
class SelfAttentionConfig(TransformerBlockConfig):
    """Options of softmax self-attention and the block around it."""

    implementation: str | None = option(
        None, help="form of the attention (flare_jax.mixers.attention); None chooses", choices=IMPLEMENTATIONS
    )


class SelfAttention(nnx.Module):
    """Multi-head softmax attention among all points, scale 1/√D.

    The output columns of `qkv_proj` are q, k and v, each of width C with heads inside. `rope` gives queries and keys
    their positions, `q_norm` and `k_norm` normalise them per head. `implementation` is that of
    `flare_jax.mixers.attention.self_attention`, with the same errors.
    """

    def __init__(
        self,
        channel_dim: int,
        config: SelfAttentionConfig,
        *,
        qkv_bias: bool = True,
        rope: RotaryEmbedding | None = None,
        q_norm: LayerNorm | RMSNorm | None = None,
        k_norm: LayerNorm | RMSNorm | None = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.implementation = check_attention(config.implementation, dtype)
        self.num_heads, self.head_dim = check_attention_heads(channel_dim, config.num_heads, rope)
        self.rope = rope
        self.attn_drop, self.proj_drop = config.attn_drop, config.proj_drop
        self.qkv_proj = Linear(channel_dim, 3 * channel_dim, use_bias=qkv_bias, dtype=dtype, rngs=rngs)
        self.q_norm, self.k_norm = q_norm, k_norm
        self.out_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None, key: Key | None = None
    ) -> Float[Array, "B N C"]:
        """Mix the real points of each sample; a padded point receives the bias of `out_proj`."""
        attn_key, proj_key = split_key(key, 2)
        q, k, v = parts_then_heads(self.qkv_proj(x), self.num_heads)
        q = q if self.q_norm is None else self.q_norm(q)
        k = k if self.k_norm is None else self.k_norm(k)
        if self.rope is not None:
            q, k = self.rope(q), self.rope(k)
        scale, rate = self.head_dim**-0.5, self.attn_drop
        y = self_attention(
            q, k, v, scale=scale, mask=mask, drop_rate=rate, key=attn_key, implementation=self.implementation
        )
        if mask is not None:
            y = jnp.where(mask[:, :, None, None], y, 0)
        return dropout(self.out_proj(merge_heads(y)), self.proj_drop, proj_key)


class SelfAttentionBlock(PreNormBlock):
    """Pre-norm transformer block: `x + att(norm1 x)`, then `x + mlp(norm2 x)`."""

    def __init__(
        self,
        channel_dim: int,
        config: SelfAttentionConfig,
        *,
        rope: RotaryEmbedding | None = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        att = SelfAttention(channel_dim, config, rope=rope, dtype=dtype, rngs=rngs)
        mlp = feed_forward(channel_dim, config, dtype=dtype, rngs=rngs)
        super().__init__(channel_dim, att=att, mlp=mlp, rmsnorm=config.rmsnorm, dtype=dtype)
