"""FLARE as a block of sequence models (FLARE, arXiv 2508.12594, section on the Long Range Arena)."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flare_jax.checks import check_depths, scaled_width
from flare_jax.layers.residual_mlp import ResidualMLP
from flare_jax.layers.rotary import RotaryEmbedding
from flare_jax.mixers.flare_attention import FlareAttention
from flare_jax.models.flare import FLAREBlock


def flare_block(
    channel_dim: int,
    *,
    num_latents: int,
    num_heads: int | None = None,
    attn_scale: str | float = "one",
    num_layers_kv_proj: int = 3,
    num_layers_ffn: int = 3,
    kv_proj_mlp_ratio: float = 1.0,
    ffn_mlp_ratio: float = 1.0,
    act: str | None = None,
    rmsnorm: bool = False,
    attn_drop: float = 0.0,
    proj_drop: float = 0.0,
    rope: RotaryEmbedding | None = None,
    implementation: str | None = None,
    mlp_implementation: str | None = None,
    dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> FLAREBlock:
    """Return a FLARE block whose key and value projections have one depth and width.

    `num_heads` defaults to `channel_dim // 8`; all other options are those of `FlareAttention` and `ResidualMLP`.
    """
    check_depths(num_layers_kv_proj=num_layers_kv_proj, num_layers_ffn=num_layers_ffn)
    # Checked here for a message with the name of this option.
    scaled_width("kv_proj_mlp_ratio", channel_dim, kv_proj_mlp_ratio)
    ffn_hidden = scaled_width("ffn_mlp_ratio", channel_dim, ffn_mlp_ratio)
    att = FlareAttention(
        channel_dim,
        num_heads=channel_dim // 8 if num_heads is None else num_heads,
        num_latents=num_latents,
        attn_scale=attn_scale,
        num_layers_k_proj=num_layers_kv_proj,
        num_layers_v_proj=num_layers_kv_proj,
        k_proj_mlp_ratio=kv_proj_mlp_ratio,
        v_proj_mlp_ratio=kv_proj_mlp_ratio,
        rmsnorm=rmsnorm,
        act=act,
        attn_drop=attn_drop,
        proj_drop=proj_drop,
        rope=rope,
        dtype=dtype,
        implementation=implementation,
        mlp_implementation=mlp_implementation,
        rngs=rngs,
    )
    mlp = ResidualMLP(
        channel_dim,
        ffn_hidden,
        channel_dim,
        num_layers=num_layers_ffn,
        act=act,
        dtype=dtype,
        implementation=mlp_implementation,
        rngs=rngs,
    )
    return FLAREBlock(channel_dim, att=att, mlp=mlp, rmsnorm=rmsnorm, dtype=dtype)
