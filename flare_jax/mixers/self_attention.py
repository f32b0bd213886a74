"""Softmax self-attention and the transformer block around it (Vaswani et al., arXiv 1706.03762)."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.layers.dropout import Key, check_rate, dropout, split_key
from flare_jax.layers.feed_forward import FeedForward
from flare_jax.layers.linear import Linear
from flare_jax.layers.norms import LayerNorm, RMSNorm
from flare_jax.layers.rotary import RotaryEmbedding
from flare_jax.mixers.attention import check_attention, self_attention
from flare_jax.mixers.block import PreNormBlock
from flare_jax.mixers.heads import check_attention_heads, merge_heads, parts_then_heads


class SelfAttention(nnx.Module):
    """Multi-head softmax attention among all points, scale 1/√D; `num_heads` defaults to `channel_dim // 16`.

    The output columns of `qkv_proj` are q, k and v, each of width C with heads inside. `rope` gives queries and keys
    their positions, `q_norm` and `k_norm` normalise them per head. With a random key, `attn_drop` of the softmax
    weights and `proj_drop` of the output are dropped. `implementation` is that of
    `flare_jax.mixers.attention.self_attention`, with the same errors.
    """

    def __init__(
        self,
        channel_dim: int,
        *,
        num_heads: int | None = None,
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        rope: RotaryEmbedding | None = None,
        implementation: str | None = None,
        q_norm: LayerNorm | RMSNorm | None = None,
        k_norm: LayerNorm | RMSNorm | None = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.implementation = check_attention(implementation, dtype)
        self.num_heads, self.head_dim = check_attention_heads(channel_dim, num_heads, rope)
        self.rope = rope
        self.attn_drop = check_rate("attn_drop", attn_drop)
        self.proj_drop = check_rate("proj_drop", proj_drop)
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
        *,
        num_heads: int | None = None,
        mlp_ratio: float = 4.0,
        act: str | None = None,
        rmsnorm: bool = False,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        rope: RotaryEmbedding | None = None,
        implementation: str | None = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        att = SelfAttention(
            channel_dim,
            num_heads=num_heads,
            attn_drop=attn_drop,
            proj_drop=proj_drop,
            rope=rope,
            implementation=implementation,
            dtype=dtype,
            rngs=rngs,
        )
        mlp = FeedForward(channel_dim, mlp_ratio=mlp_ratio, act=act, proj_drop=proj_drop, dtype=dtype, rngs=rngs)
        super().__init__(channel_dim, att=att, mlp=mlp, rmsnorm=rmsnorm, dtype=dtype)
