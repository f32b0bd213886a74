"""Softmax self-attention and the transformer block around it (Vaswani et al., arXiv 1706.03762)."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_head_dim
from flare_jax.layers.feed_forward import FeedForward
from flare_jax.layers.linear import Linear
from flare_jax.layers.norms import make_norm
from flare_jax.mixers.attention import softmax_attention


class SelfAttention(nnx.Module):
    """Multi-head softmax attention among all points, scale 1/√D; `num_heads` defaults to `channel_dim // 16`.

    The output columns of `qkv_proj` are q, k and v, each of width C with heads inside.
    """

    def __init__(
        self,
        channel_dim: int,
        *,
        num_heads: int | None = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.num_heads = channel_dim // 16 if num_heads is None else num_heads
        self.head_dim = check_head_dim(channel_dim, self.num_heads)
        self.qkv_proj = Linear(channel_dim, 3 * channel_dim, dtype=dtype, rngs=rngs)
        self.out_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None) -> Float[Array, "B N C"]:
        """Mix the real points of each sample; a padded point receives the bias of `out_proj`."""
        q, k, v = self.qkv_proj(x).reshape(*x.shape[:2], 3, self.num_heads, self.head_dim).transpose(2, 0, 1, 3, 4)
        y = softmax_attention(q, k, v, scale=self.head_dim**-0.5, mask=mask)
        if mask is not None:
            y = jnp.where(mask[:, :, None, None], y, 0)
        return self.out_proj(y.reshape(x.shape))


class SelfAttentionBlock(nnx.Module):
    """Pre-norm transformer block: `x + att(norm1 x)`, then `x + mlp(norm2 x)`."""

    def __init__(
        self,
        channel_dim: int,
        *,
        num_heads: int | None = None,
        mlp_ratio: float = 4.0,
        act: str | None = None,
        rmsnorm: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.norm1 = make_norm(channel_dim, rmsnorm=rmsnorm, dtype=dtype)
        self.att = SelfAttention(channel_dim, num_heads=num_heads, dtype=dtype, rngs=rngs)
        self.norm2 = make_norm(channel_dim, rmsnorm=rmsnorm, dtype=dtype)
        self.mlp = FeedForward(channel_dim, mlp_ratio=mlp_ratio, act=act, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None) -> Float[Array, "B N C"]:
        """Apply the block."""
        x = x + self.att(self.norm1(x), mask)
        return x + self.mlp(self.norm2(x))
