"""Blocks of sequence models whose tokens read a polynomial state: multilinear, strassen, triple, triple1 and quad."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flare_jax.checks import check_depths, scaled_width
from flare_jax.layers.activations import TS1_ACTIVATIONS
from flare_jax.layers.dropout import refuse_attention_dropout
from flare_jax.layers.feed_forward import FeedForward
from flare_jax.layers.residual_mlp import ResidualMLP
from flare_jax.mixers.block import PreNormBlock
from flare_jax.mixers.multilinear_attention import MultilinearAttention
from flare_jax.mixers.quad_attention import QuadAttention
from flare_jax.mixers.state_attention import StateAttention, StateOptions
from flare_jax.mixers.strassen_attention import StrassenAttention
from flare_jax.mixers.triple_attention import TripleAttention


def multilinear_block(
    channel_dim: int,
    *,
    num_heads: int | None = None,
    num_states: int = 2,
    kernel: str = "identity",
    norm_q: bool = False,
    norm_k: bool = False,
    qk_dim_ratio: float = 1.0,
    num_layers_kv_proj: int = -1,
    num_layers_ffn: int = 0,
    ffn_mlp_ratio: float = 4.0,
    act: str | None = None,
    rmsnorm: bool = False,
    attn_drop: float = 0.0,
    proj_drop: float = 0.0,
    mlp_implementation: str | None = None,
    dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> PreNormBlock:
    """Return a block of multilinear attention with `num_states` states; see `StateOptions` for the options."""
    refuse_attention_dropout("multilinear attention", attn_drop)
    options = StateOptions(
        kernel=kernel,
        norm_q=norm_q,
        norm_k=norm_k,
        qk_dim_ratio=qk_dim_ratio,
        num_layers_kv_proj=num_layers_kv_proj,
        act=act,
        rmsnorm=rmsnorm,
        proj_drop=proj_drop,
        mlp_implementation=mlp_implementation,
    )
    att = MultilinearAttention(
        channel_dim, num_heads=num_heads, num_states=num_states, options=options, dtype=dtype, rngs=rngs
    )
    return _block(channel_dim, att, num_layers_ffn, ffn_mlp_ratio, rngs)


def strassen_block(
    channel_dim: int,
    *,
    num_heads: int | None = None,
    kernel: str = "identity",
    norm_q: bool = False,
    norm_k: bool = False,
    qk_dim_ratio: float = 1.0,
    num_layers_kv_proj: int = -1,
    num_layers_ffn: int = 0,
    ffn_mlp_ratio: float = 4.0,
    act: str | None = None,
    rmsnorm: bool = False,
    attn_drop: float = 0.0,
    proj_drop: float = 0.0,
    mlp_implementation: str | None = None,
    dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> PreNormBlock:
    """Return a block of Strassen attention with linear states; see `StateOptions` for the options."""
    refuse_attention_dropout("strassen attention", attn_drop)
    options = StateOptions(
        kernel=kernel,
        norm_q=norm_q,
        norm_k=norm_k,
        qk_dim_ratio=qk_dim_ratio,
        num_layers_kv_proj=num_layers_kv_proj,
        act=act,
        rmsnorm=rmsnorm,
        proj_drop=proj_drop,
        mlp_implementation=mlp_implementation,
    )
    att = StrassenAttention(channel_dim, num_heads=num_heads, options=options, dtype=dtype, rngs=rngs)
    return _block(channel_dim, att, num_layers_ffn, ffn_mlp_ratio, rngs)


def triple_block(
    channel_dim: int,
    *,
    num_heads: int | None = None,
    kernel: str = "identity",
    norm_q: bool = False,
    norm_k: bool = False,
    qk_dim_ratio: float = 1.0,
    num_layers_kv_proj: int = -1,
    num_layers_ffn: int = 0,
    ffn_mlp_ratio: float = 4.0,
    act: str | None = None,
    rmsnorm: bool = False,
    attn_drop: float = 0.0,
    proj_drop: float = 0.0,
    implementation: str | None = None,
    mlp_implementation: str | None = None,
    dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> PreNormBlock:
    """Return a block of triple attention; see `StateOptions` for the options and `TripleAttention` for the kernel."""
    refuse_attention_dropout("triple attention", attn_drop)
    options = StateOptions(
        kernel=kernel,
        norm_q=norm_q,
        norm_k=norm_k,
        qk_dim_ratio=qk_dim_ratio,
        num_layers_kv_proj=num_layers_kv_proj,
        act=act,
        rmsnorm=rmsnorm,
        proj_drop=proj_drop,
        mlp_implementation=mlp_implementation,
    )
    att = TripleAttention(
        channel_dim, num_heads=num_heads, options=options, dtype=dtype, implementation=implementation, rngs=rngs
    )
    return _block(channel_dim, att, num_layers_ffn, ffn_mlp_ratio, rngs)


def quad_block(
    channel_dim: int,
    *,
    num_heads: int | None = None,
    kernel: str = "identity",
    norm_q: bool = False,
    norm_k: bool = False,
    qk_dim_ratio: float = 1.0,
    num_layers_kv_proj: int = -1,
    num_layers_ffn: int = 0,
    ffn_mlp_ratio: float = 4.0,
    act: str | None = None,
    rmsnorm: bool = False,
    attn_drop: float = 0.0,
    proj_drop: float = 0.0,
    mlp_implementation: str | None = None,
    dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> PreNormBlock:
    """Return a block of quad attention; see `StateOptions` for the options."""
    refuse_attention_dropout("quad attention", attn_drop)
    options = StateOptions(
        kernel=kernel,
        norm_q=norm_q,
        norm_k=norm_k,
        qk_dim_ratio=qk_dim_ratio,
        num_layers_kv_proj=num_layers_kv_proj,
        act=act,
        rmsnorm=rmsnorm,
        proj_drop=proj_drop,
        mlp_implementation=mlp_implementation,
    )
    att = QuadAttention(channel_dim, num_heads=num_heads, options=options, dtype=dtype, rngs=rngs)
    return _block(channel_dim, att, num_layers_ffn, ffn_mlp_ratio, rngs)


def triple1_block(
    channel_dim: int,
    *,
    num_heads: int | None = None,
    mlp_ratio: float = 4.0,
    act: str | None = None,
    rmsnorm: bool = False,
    attn_drop: float = 0.0,
    proj_drop: float = 0.0,
    implementation: str | None = None,
    mlp_implementation: str | None = None,
    dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> PreNormBlock:
    """Return a block of triple attention with deep projections (three inner layers) and unit queries and keys.

    `act` is that of the feed-forward part, where it may also be 'swiglu'; the projections always have the tanh GELU.
    """
    refuse_attention_dropout("triple1 attention", attn_drop)
    options = StateOptions(
        norm_q=True,
        norm_k=True,
        num_layers_kv_proj=3,
        rmsnorm=rmsnorm,
        proj_drop=proj_drop,
        mlp_implementation=mlp_implementation,
    )
    att = TripleAttention(
        channel_dim, num_heads=num_heads, options=options, dtype=dtype, implementation=implementation, rngs=rngs
    )
    mlp = FeedForward(
        channel_dim,
        mlp_ratio=mlp_ratio,
        act=act,
        proj_drop=proj_drop,
        activations=TS1_ACTIVATIONS,
        dtype=dtype,
        rngs=rngs,
    )
    return PreNormBlock(channel_dim, att=att, mlp=mlp, rmsnorm=rmsnorm, dtype=dtype)


def _block(
    channel_dim: int, att: StateAttention, num_layers_ffn: int, ffn_mlp_ratio: float, rngs: nnx.Rngs
) -> PreNormBlock:
    """Return the block of a mixer, with a residual MLP of the mixer's activation, norm, dtype and kernel."""
    check_depths(num_layers_ffn=num_layers_ffn)
    mlp = ResidualMLP(
        channel_dim,
        scaled_width("ffn_mlp_ratio", channel_dim, ffn_mlp_ratio),
        channel_dim,
        num_layers=num_layers_ffn,
        act=att.options.act,
        dtype=att.dtype,
        implementation=att.options.mlp_implementation,
        rngs=rngs,
    )
    return PreNormBlock(channel_dim, att=att, mlp=mlp, rmsnorm=att.options.rmsnorm, dtype=att.dtype)
