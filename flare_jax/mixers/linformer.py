"""Linformer: attention to keys and values compressed along the sequence (arXiv 2006.04768)."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_sizes
from flare_jax.layers.dropout import Key, check_rate, dropout, split_key
from flare_jax.layers.feed_forward import FeedForward
from flare_jax.layers.initializers import normal
from flare_jax.layers.linear import Linear
from flare_jax.layers.rotary import RotaryEmbedding
from flare_jax.mixers.attention import softmax_attention
from flare_jax.mixers.block import PreNormBlock
from flare_jax.mixers.heads import check_attention_heads, heads_then_parts, merge_heads
from flare_jax.params import Matrix


class LinformerAttention(nnx.Module):
    """Token mixer of cost O(N·k): softmax attention to `k` weighted sums of the keys and values, scale 1/√D.

    The weights `E_k` and `E_v` [seq_len, k], shared by the heads and ~ Normal(0, 1/D), belong to positions: only their
    first N rows are used, and the order of the points matters. The output columns of `qkv_proj` are heads, each with
    its q, k and v. `num_heads` defaults to `channel_dim // 16`. `masked` decides what a mask does: padded points are
    left out of the sums, or, if it is false, the call raises ValueError as the original does.
    """

    def __init__(
        self,
        channel_dim: int,
        *,
        seq_len: int,
        k: int = 256,
        num_heads: int | None = None,
        masked: bool = False,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        rope: RotaryEmbedding | None = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_sizes(seq_len=seq_len, k=k)
        self.num_heads, self.head_dim = check_attention_heads(channel_dim, num_heads, rope)
        self.masked = masked
        self.rope = rope
        self.attn_drop = check_rate("attn_drop", attn_drop)
        self.proj_drop = check_rate("proj_drop", proj_drop)
        initialize = normal(self.head_dim**-0.5)
        self.qkv_proj = Linear(channel_dim, 3 * channel_dim, dtype=dtype, rngs=rngs)
        self.E_k = Matrix(initialize(rngs.params(), (seq_len, k)))
        self.E_v = Matrix(initialize(rngs.params(), (seq_len, k)))
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
        *,
        seq_len: int,
        k: int = 256,
        num_heads: int | None = None,
        masked: bool = False,
        mlp_ratio: float = 4.0,
        act: str | None = None,
        rmsnorm: bool = False,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        rope: RotaryEmbedding | None = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        att = LinformerAttention(
            channel_dim,
            seq_len=seq_len,
            k=k,
            num_heads=num_heads,
            masked=masked,
            attn_drop=attn_drop,
            proj_drop=proj_drop,
            rope=rope,
            dtype=dtype,
            rngs=rngs,
        )
        mlp = FeedForward(channel_dim, mlp_ratio=mlp_ratio, act=act, proj_drop=proj_drop, dtype=dtype, rngs=rngs)
        super().__init__(channel_dim, att=att, mlp=mlp, rmsnorm=rmsnorm, dtype=dtype)
