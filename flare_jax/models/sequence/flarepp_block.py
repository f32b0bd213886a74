"""FLARE++ as a block of sequence models (arXiv 2608.11519, section on the Long Range Arena)."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flare_jax.checks import scaled_width
from flare_jax.layers.activations import RESIDUAL_MLP_ACTIVATIONS
from flare_jax.layers.norms import FLAREPP_RMS_NORM_EPSILON
from flare_jax.layers.residual_mlp import ResidualMLP
from flare_jax.layers.rotary import RotaryEmbedding
from flare_jax.mixers.flarepp import FlareppConfig, flarepp
from flare_jax.models.flare import FLAREBlock
from flare_jax.option_groups import depth, heads, rate, ratio
from flare_jax.options import option


@dataclass(frozen=True, kw_only=True)
class TokenFlareppConfig(FlareppConfig):
    """Options of FLARE++ as a block of sequence models."""

    num_heads: int | None = heads(None, "of width 8")
    act: str | None = option(None, help="activation of the feed-forward part", choices=RESIDUAL_MLP_ACTIVATIONS)
    attn_drop: float = rate("the attention weights")
    proj_drop: float = rate("the output of the mixer")
    num_layers_ffn: int = depth(0, "feed-forward part")
    ffn_mlp_ratio: float = ratio(4.0, "feed-forward part", unless=("num_layers_ffn", -1))


def flarepp_block(
    channel_dim: int,
    config: TokenFlareppConfig,
    *,
    rope: RotaryEmbedding | None = None,
    dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> FLAREBlock:
    """Return the FLARE++ block that the options describe.

    `rope` turns the keys of the first gather, not its values, and the keys of the routing. `identity_init` False starts
    the projections near 0, as the original's sequence models do.
    """
    mlp = ResidualMLP(
        channel_dim,
        scaled_width("ffn_mlp_ratio", channel_dim, config.ffn_mlp_ratio),
        channel_dim,
        num_layers=config.num_layers_ffn,
        act=config.act,
        dtype=dtype,
        implementation=config.mlp_implementation,
        rngs=rngs,
    )
    drops = {"attn_drop": config.attn_drop, "proj_drop": config.proj_drop}
    att = flarepp(config, **drops, rope=rope, dtype=dtype, rngs=rngs)
    kind = {"rmsnorm": config.rmsnorm, "rms_epsilon": FLAREPP_RMS_NORM_EPSILON}
    return FLAREBlock(channel_dim, att=att, mlp=mlp, **kind, dtype=dtype)
