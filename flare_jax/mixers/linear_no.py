"""LinearNO: linear attention whose features are softmaxes of queries over channels and of keys over tokens."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_depths, scaled_width
from flare_jax.layers.dropout import Key, check_rate, dropout, refuse_attention_dropout
from flare_jax.layers.linear import Linear
from flare_jax.layers.norms import make_norm
from flare_jax.layers.residual_mlp import ResidualMLP
from flare_jax.mixers.block import PreNormBlock
from flare_jax.mixers.heads import check_attention_heads, merge_heads, split_heads


class LinearNOAttention(nnx.Module):
    """Token mixer of cost O(N·D²): `softmax_D(q) (softmax_N(k)ᵀ v)` per head, a norm over C, and `out_proj`.

    `masked` decides what a mask does: padded tokens are left out of the softmax over tokens, or, if it is false, the
    call raises ValueError as the original does. `attn_drop` must be 0. `num_heads` defaults to `channel_dim // 16`.
    """

    def __init__(
        self,
        channel_dim: int,
        *,
        num_heads: int | None = None,
        masked: bool = False,
        rmsnorm: bool = False,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        refuse_attention_dropout("linear_no", attn_drop)
        self.num_heads, _ = check_attention_heads(channel_dim, num_heads)
        self.masked = masked
        self.proj_drop = check_rate("proj_drop", proj_drop)
        self.q_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)
        self.k_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)
        self.v_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)
        self.norm = make_norm(channel_dim, rmsnorm=rmsnorm, dtype=dtype)
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

    def __init__(
        self,
        channel_dim: int,
        *,
        num_heads: int | None = None,
        masked: bool = False,
        num_layers_ffn: int = 0,
        ffn_mlp_ratio: float = 4.0,
        act: str | None = None,
        rmsnorm: bool = False,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_depths(num_layers_ffn=num_layers_ffn)
        att = LinearNOAttention(
            channel_dim,
            num_heads=num_heads,
            masked=masked,
            rmsnorm=rmsnorm,
            attn_drop=attn_drop,
            proj_drop=proj_drop,
            dtype=dtype,
            rngs=rngs,
        )
        hidden_dim = scaled_width("ffn_mlp_ratio", channel_dim, ffn_mlp_ratio)
        mlp = ResidualMLP(
            channel_dim, hidden_dim, channel_dim, num_layers=num_layers_ffn, act=act, dtype=dtype, rngs=rngs
        )
        super().__init__(channel_dim, att=att, mlp=mlp, rmsnorm=rmsnorm, dtype=dtype)
