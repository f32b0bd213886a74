"""Softmax attention from one set of tokens to another, and the transformer block around it (arXiv 1706.03762)."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_head_dim
from flare_jax.layers.feed_forward import FeedForward
from flare_jax.layers.linear import Linear
from flare_jax.layers.norms import LAYER_NORM_EPSILON, LayerNorm
from flare_jax.mixers.attention import softmax_attention
from flare_jax.mixers.heads import merge_heads, parts_then_heads, split_heads


class CrossAttention(nnx.Module):
    """`out_proj(softmax_N(q kᵀ/√D) v)` per head, with M queries and N tokens that give keys and values.

    `fused_kv` stores keys and values as one projection `kv_proj` [C, 2C], keys first. Without `query_proj` the queries
    are used as they are. `use_bias` is for the query, key and value projections; `out_proj` always has one.
    """

    def __init__(
        self,
        channel_dim: int,
        *,
        num_heads: int,
        query_proj: bool = True,
        fused_kv: bool = False,
        use_bias: bool = True,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.head_dim = check_head_dim(channel_dim, num_heads)
        self.num_heads = num_heads

        def projection(parts: int) -> Linear:
            return Linear(channel_dim, parts * channel_dim, use_bias=use_bias, dtype=dtype, rngs=rngs)

        self.q_proj = projection(1) if query_proj else None
        self.kv_proj = projection(2) if fused_kv else None
        self.k_proj = None if fused_kv else projection(1)
        self.v_proj = None if fused_kv else projection(1)
        self.out_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        queries: Float[Array, "B M C"],
        tokens: Float[Array, "B N C"],
        mask: Bool[Array, "B N"] | None = None,
    ) -> Float[Array, "B M C"]:
        """Return what every query gathers from the real tokens of its sample."""
        q = split_heads(queries if self.q_proj is None else self.q_proj(queries), self.num_heads)
        if self.kv_proj is None:
            k, v = split_heads(self.k_proj(tokens), self.num_heads), split_heads(self.v_proj(tokens), self.num_heads)
        else:
            k, v = parts_then_heads(self.kv_proj(tokens), self.num_heads, parts=2)
        return self.out_proj(merge_heads(softmax_attention(q, k, v, scale=self.head_dim**-0.5, mask=mask)))


class CrossAttentionBlock(nnx.Module):
    """Pre-norm block: `q + att(norm_q q, norm_kv tokens)`, then `q + mlp(norm_mlp q)`; keys and values are fused."""

    def __init__(
        self,
        channel_dim: int,
        *,
        num_heads: int,
        mlp_ratio: float = 4.0,
        act: str | None = None,
        use_bias: bool = True,
        epsilon: float = LAYER_NORM_EPSILON,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.norm_q = LayerNorm(channel_dim, epsilon=epsilon, dtype=dtype)
        self.norm_kv = LayerNorm(channel_dim, epsilon=epsilon, dtype=dtype)
        self.att = CrossAttention(
            channel_dim, num_heads=num_heads, fused_kv=True, use_bias=use_bias, dtype=dtype, rngs=rngs
        )
        self.norm_mlp = LayerNorm(channel_dim, epsilon=epsilon, dtype=dtype)
        self.mlp = FeedForward(channel_dim, mlp_ratio=mlp_ratio, act=act, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        queries: Float[Array, "B M C"],
        tokens: Float[Array, "B N C"],
        mask: Bool[Array, "B N"] | None = None,
    ) -> Float[Array, "B M C"]:
        """Apply the block to the queries; `mask` marks the real tokens."""
        queries = queries + self.att(self.norm_q(queries), self.norm_kv(tokens), mask)
        return queries + self.mlp(self.norm_mlp(queries))
