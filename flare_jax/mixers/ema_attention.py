"""Gated single-head attention on a moving average, after MEGA (Ma et al., arXiv 2209.10655)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_dtype
from flare_jax.layers.dropout import Key
from flare_jax.layers.initializers import linear_kernel, zeros
from flare_jax.layers.linear import Linear
from flare_jax.mixers.attention import softmax_attention
from flare_jax.mixers.block import PreNormBlock, feed_forward
from flare_jax.mixers.damped_ema import EMA_IMPLEMENTATIONS, DampedEMA
from flare_jax.option_groups import TransformerBlockConfig
from flare_jax.options import option
from flare_jax.params import Matrix


@dataclass(frozen=True, kw_only=True)
class EmaConfig(TransformerBlockConfig):
    """Options of gated attention on a moving average and the block around it; it has one head whatever they say."""

    ema_impl: str = option("scan", help="form of the moving average (DampedEMA)", choices=EMA_IMPLEMENTATIONS)
    masked_ema: bool = option(True, help="padding counts as zeros in the moving average; False: as tokens")


class EmaAttention(nnx.Module):
    """Token mixer of cost O(N²·C) with one head of width C, scale 1/√C.

    With e the moving average of x: q, k = silu(linear(e)), v = silu(linear(x)), a = attention(q, k, v), gates
    γ1, γ2 = sigmoid(linear(e)), h = silu(e Wh + (a∘γ1) Uh + bh), y = h∘γ2 + (1 − γ2)∘x.

    With `masked_ema` padded tokens count as zeros in the moving average too, and a sequence padded at its end gives
    what it gives without padding. Without it the mask acts on the attention only, as in the original.
    """

    def __init__(
        self,
        channel_dim: int,
        config: EmaConfig,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.attn_drop = config.attn_drop
        self.masked_ema = config.masked_ema
        self.dtype = check_dtype(dtype)
        self.ema = DampedEMA(channel_dim, ema_impl=config.ema_impl, dtype=dtype, rngs=rngs)
        self.query_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)
        self.key_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)
        self.value_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)
        self.gate_proj1 = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)
        self.gate_proj2 = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)
        # Not linear layers: the original stores these two matrices as [C_in, C_out] as well.
        self.Wh = Matrix(linear_kernel(rngs.params(), (channel_dim, channel_dim)))
        self.Uh = Matrix(linear_kernel(rngs.params(), (channel_dim, channel_dim)))
        self.bh = nnx.Param(zeros(channel_dim))

    def __call__(
        self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None, key: Key | None = None
    ) -> Float[Array, "B N C"]:
        """Mix the tokens; attention reads real tokens only and gives zero to padded ones."""
        x = x.astype(self.dtype)
        average = self.ema(x, mask if self.masked_ema else None)
        attended = self._attend(average, x, mask, key)
        gate1, gate2 = jax.nn.sigmoid(self.gate_proj1(average)), jax.nn.sigmoid(self.gate_proj2(average))
        wh, uh, bh = (param[...].astype(self.dtype) for param in (self.Wh, self.Uh, self.bh))
        h = jax.nn.silu(average @ wh + (attended * gate1) @ uh + bh)
        return h * gate2 + (1 - gate2) * x

    def _attend(self, average: Array, x: Array, mask: Array | None, key: Key | None) -> Array:
        heads = (self.query_proj(average), self.key_proj(average), self.value_proj(x))
        q, k, v = (jax.nn.silu(head)[:, :, None] for head in heads)
        a = softmax_attention(q, k, v, scale=x.shape[-1] ** -0.5, mask=mask, drop_rate=self.attn_drop, key=key)
        return a[:, :, 0] if mask is None else jnp.where(mask[..., None], a[:, :, 0], 0)


class EmaBlock(PreNormBlock):
    """Pre-norm block of gated attention on a moving average; `proj_drop` acts in the feed-forward part only."""

    def __init__(self, channel_dim: int, config: EmaConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        att = EmaAttention(channel_dim, config, dtype=dtype, rngs=rngs)
        mlp = feed_forward(channel_dim, config, dtype=dtype, rngs=rngs)
        super().__init__(channel_dim, att=att, mlp=mlp, rmsnorm=config.rmsnorm, dtype=dtype)
