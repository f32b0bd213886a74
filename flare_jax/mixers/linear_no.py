"""LinearNO: linear attention whose features are softmaxes of queries over channels and of keys over tokens."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import scaled_width
from flare_jax.layers.activations import RESIDUAL_MLP_ACTIVATIONS
from flare_jax.layers.dropout import Key, dropout, refuse_attention_dropout
from flare_jax.layers.linear import Linear
from flare_jax.layers.norms import make_norm
from flare_jax.layers.residual_mlp import ResidualMLP
from flare_jax.mixers.block import PreNormBlock
from flare_jax.mixers.heads import check_attention_heads, merge_heads, split_heads
from flare_jax.option_groups import BlockConfig, depth, ratio
from flare_jax.options import option


@dataclass(frozen=True, kw_only=True)
class LinearNOConfig(BlockConfig):
    """Options of LinearNO attention and the block around it."""

    act: str | None = option(None, help="activation of the residual MLP", choices=RESIDUAL_MLP_ACTIVATIONS)
    masked: bool = option(True, help="leave padding out of the softmax; False refuses masks, as the original does")
    num_layers_ffn: int = depth(0, "feed-forward part")
    ffn_mlp_ratio: float = ratio(4.0, "feed-forward part", unless=("num_layers_ffn", -1))

    def check_together(self) -> None:
        """Refuse dropout of attention weights."""
        super().check_together()
        refuse_attention_dropout("linear_no", self.attn_drop)


class LinearNOAttention(nnx.Module):
    """Token mixer of cost O(N·D²): `softmax_D(q) (softmax_N(k)ᵀ v)` per head, a norm over C, and `out_proj`.

    `attn_drop` must be 0.
    """

    def __init__(
        self,
        channel_dim: int,
        config: LinearNOConfig,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.num_heads, _ = check_attention_heads(channel_dim, config.num_heads)
        self.masked = config.masked
        self.proj_drop = config.proj_drop
        self.q_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)
        self.k_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)
        self.v_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)
        self.norm = make_norm(channel_dim, rmsnorm=config.rmsnorm, dtype=dtype)
        self.out_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None, key: Key | None = None
    ) -> Float[Array, "B N C"]:
        """Mix the tokens; what padded tokens receive is meaningless."""
        if mask is not None and not self.masked:
            raise ValueError(
                "linear_no takes no mask of padded tokens, because its keys are normalised over all of them; "
                "pass samples of equal length without a mask, or set masked=True to leave padding out"
            )
        q, k, v = (split_heads(part(x), self.num_heads) for part in (self.q_proj, self.k_proj, self.v_proj))
        q, k, v = (part.astype(jnp.float32) for part in (q, k, v))
        if mask is not None:
            real = mask[:, :, None, None]
            # A finite bound instead of −∞: a sample without any token must not give NaN.
            k, v = jnp.where(real, k, jnp.finfo(jnp.float32).min), jnp.where(real, v, 0)
        state = jnp.einsum("bnhm,bnhd->bhmd", jax.nn.softmax(k, axis=1), v)
        y = jnp.einsum("bnhm,bhmd->bnhd", jax.nn.softmax(q, axis=-1), state)
        return dropout(self.out_proj(self.norm(merge_heads(y))), self.proj_drop, key)


class LinearNOBlock(PreNormBlock):
    """Pre-norm block of LinearNO attention and a residual MLP with `num_layers_ffn` inner layers."""

    def __init__(self, channel_dim: int, config: LinearNOConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        att = LinearNOAttention(channel_dim, config, dtype=dtype, rngs=rngs)
        mlp = ResidualMLP(
            channel_dim,
            scaled_width("ffn_mlp_ratio", channel_dim, config.ffn_mlp_ratio),
            channel_dim,
            num_layers=config.num_layers_ffn,
            act=config.act,
            dtype=dtype,
            rngs=rngs,
        )
        super().__init__(channel_dim, att=att, mlp=mlp, rmsnorm=config.rmsnorm, dtype=dtype)
