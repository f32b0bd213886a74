"""FLARE++ as a block of sequence models (arXiv 2608.11519, section on the Long Range Arena)."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flare_jax.checks import check_depths, scaled_width
from flare_jax.layers.initializers import LINEAR_STD
from flare_jax.layers.norms import FLAREPP_RMS_NORM_EPSILON
from flare_jax.layers.residual_mlp import ResidualMLP
from flare_jax.layers.rotary import RotaryEmbedding
from flare_jax.mixers.flarepp import FlareppConfig, flarepp
from flare_jax.models.flare import FLAREBlock


def flarepp_block(
    channel_dim: int,
    *,
    num_latents: int = 64,
    num_heads: int | None = None,
    k_norm: bool = True,
    share_k0_v0: bool = True,
    q_fixed_norm: bool = True,
    gate_logit_init: float = 0.25,
    latent_std: float = LINEAR_STD,
    identity_init: bool = True,
    num_layers_ffn: int = 0,
    ffn_mlp_ratio: float = 4.0,
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
    """Return a FLARE++ block; the options are those of `FlareppConfig` and of a residual MLP.

    `rope` turns the keys of the first gather, not its values, and the keys of the routing. `identity_init` False starts
    the projections near 0, as the original's sequence models do.
    """
    check_depths(num_layers_ffn=num_layers_ffn)
    config = FlareppConfig(
        channel_dim=channel_dim,
        num_heads=num_heads,
        rmsnorm=rmsnorm,
        num_latents=num_latents,
        k_norm=k_norm,
        share_k0_v0=share_k0_v0,
        q_fixed_norm=q_fixed_norm,
        gate_logit_init=gate_logit_init,
        latent_std=latent_std,
        identity_init=identity_init,
        implementation=implementation,
        mlp_implementation=mlp_implementation,
    )
    mlp = ResidualMLP(
        channel_dim,
        scaled_width("ffn_mlp_ratio", channel_dim, ffn_mlp_ratio),
        channel_dim,
        num_layers=num_layers_ffn,
        act=act,
        dtype=dtype,
        implementation=mlp_implementation,
        rngs=rngs,
    )
    att = flarepp(config, attn_drop=attn_drop, proj_drop=proj_drop, rope=rope, dtype=dtype, rngs=rngs)
    return FLAREBlock(channel_dim, att=att, mlp=mlp, rmsnorm=rmsnorm, rms_epsilon=FLAREPP_RMS_NORM_EPSILON, dtype=dtype)
