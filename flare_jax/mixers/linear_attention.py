"""Kernelised linear attention (Katharopoulos et al., arXiv 2006.16236)."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.layers.dropout import Key, dropout, refuse_attention_dropout
from flare_jax.layers.feature_maps import FEATURE_MAPS, make_feature_map, unit
from flare_jax.layers.linear import Linear
from flare_jax.layers.rotary import RotaryEmbedding
from flare_jax.mixers.block import PreNormBlock, feed_forward
from flare_jax.mixers.heads import check_attention_heads, heads_then_parts, merge_heads
from flare_jax.option_groups import TransformerBlockConfig
from flare_jax.options import option

DENOMINATOR_EPSILON = 1e-6


def linear_attention(
    q: Float[Array, "B N H M"],
    k: Float[Array, "B N H M"],
    v: Float[Array, "B N H D"],
    mask: Bool[Array, "B N"] | None = None,
) -> Float[Array, "B N H D"]:
    """Return `q_n Σ k vᵀ / (q_n · Σ k + 1e-6)` for features q, k, summing over the real points, all in float32.

    The denominator is not made positive: features of both signs can bring it near zero.
    """
    q, k, v = (part.astype(jnp.float32) for part in (q, k, v))
    if mask is not None:
        real = mask[:, :, None, None]
        k, v = jnp.where(real, k, 0), jnp.where(real, v, 0)
    state = jnp.einsum("bnhm,bnhd->bhmd", k, v)
    total = jnp.einsum("bnhm,bhm->bnh", q, k.sum(1))[..., None]
    return jnp.einsum("bnhm,bhmd->bnhd", q, state) / (total + DENOMINATOR_EPSILON)


@dataclass(frozen=True, kw_only=True)
class LinearAttentionConfig(TransformerBlockConfig):
    """Options of linear attention and the block around it."""

    kernel: str = option("silu", help="feature map of queries and keys", choices=FEATURE_MAPS)
    norm_q: bool = option(False, help="scale the features of queries to unit length")
    norm_k: bool = option(False, help="scale the features of keys to unit length")

    def check_together(self) -> None:
        """Refuse dropout of attention weights."""
        super().check_together()
        refuse_attention_dropout("linear attention", self.attn_drop)


class LinearAttention(nnx.Module):
    """Token mixer of cost O(N·D²): linear attention with the feature map `kernel` on queries and keys.

    The output columns of `qkv_proj` are heads, each with its q, k and v. `rope` acts before the feature map. There are
    no attention probabilities, so that `attn_drop` must be 0. Feature maps: `flare_jax.layers.feature_maps`.
    """

    def __init__(
        self,
        channel_dim: int,
        config: LinearAttentionConfig,
        *,
        rope: RotaryEmbedding | None = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.num_heads, head_dim = check_attention_heads(channel_dim, config.num_heads, rope)
        self.norm_q, self.norm_k = config.norm_q, config.norm_k
        self.rope = rope
        self.proj_drop = config.proj_drop
        self.qkv_proj = Linear(channel_dim, 3 * channel_dim, dtype=dtype, rngs=rngs)
        self.kernel = make_feature_map(config.kernel, head_dim, dtype=dtype, rngs=rngs)
        self.out_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None, key: Key | None = None
    ) -> Float[Array, "B N C"]:
        """Mix the real points of each sample; what padded points receive is meaningless."""
        q, k, v = heads_then_parts(self.qkv_proj(x), self.num_heads)
        if self.rope is not None:
            q, k = self.rope(q), self.rope(k)
        q, k = self.kernel(q), self.kernel(k)
        q, k = unit(q) if self.norm_q else q, unit(k) if self.norm_k else k
        y = linear_attention(q, k, v, mask)
        return dropout(self.out_proj(merge_heads(y)), self.proj_drop, key)


class LinearAttentionBlock(PreNormBlock):
    """Pre-norm block of linear attention and a feed-forward part."""

    def __init__(
        self,
        channel_dim: int,
        config: LinearAttentionConfig,
        *,
        rope: RotaryEmbedding | None = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        att = LinearAttention(channel_dim, config, rope=rope, dtype=dtype, rngs=rngs)
        mlp = feed_forward(channel_dim, config, dtype=dtype, rngs=rngs)
        super().__init__(channel_dim, att=att, mlp=mlp, rmsnorm=config.rmsnorm, dtype=dtype)
