"""The mixers of the shared backbone by name, each built from the configuration of its kind (arXiv 2608.11519)."""

import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flare_jax.layers.initializers import LINEAR_STD, normal
from flare_jax.layers.norms import FLAREPP_RMS_NORM_EPSILON, make_norm
from flare_jax.mixers import flarepp
from flare_jax.mixers.adaptive_slice_attention import AdaptiveSliceAttention
from flare_jax.mixers.flare_attention import FlareAttention, FlareAttentionConfig
from flare_jax.mixers.self_attention import SelfAttention, SelfAttentionConfig
from flare_jax.mixers.slice_attention import GridSliceConfig, SliceAttention, SliceConfig
from flare_jax.mixers.slice_space_attention import SliceSpaceAttention
from flare_jax.mixers.slice_tokens import SliceTokenAttention
from flare_jax.option_groups import LatentConfig, MixerConfig, RoutingConfig
from flare_jax.options import option


@dataclass(frozen=True, kw_only=True)
class MhaConfig(MixerConfig):
    """Options of `mha`, softmax attention among all points."""

    qk_norm: bool = option(False, help="normalise queries and keys per head")


@dataclass(frozen=True, kw_only=True)
class FixedRoutingConfig(RoutingConfig):
    """Options of `flare`, whose queries are parameters."""

    qk_norm: bool = option(False, help="normalise latents and keys per head")


def make_mixer(kind: str, config: MixerConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs) -> nnx.Module:
    """Return one mixer of the backbone, called as `mixer(x, mask, key) -> y`; `config` has the type of its kind."""
    return MIXERS[kind][1](config, dtype=dtype, rngs=rngs)


def _self_attention(config: MhaConfig, *, dtype: DTypeLike, rngs: nnx.Rngs) -> SelfAttention:
    norms = {name: _head_norm(config, dtype) for name in ("q_norm", "k_norm")} if config.qk_norm else {}
    return SelfAttention(
        config.channel_dim, SelfAttentionConfig(num_heads=config.heads), **norms, dtype=dtype, rngs=rngs
    )


def _fixed_routing(config: FixedRoutingConfig, *, dtype: DTypeLike, rngs: nnx.Rngs) -> FlareAttention:
    shape = (config.heads, config.num_latents, config.head_dim)
    return FlareAttention(
        config.channel_dim,
        FlareAttentionConfig(
            num_heads=config.heads,
            num_latents=config.num_latents,
            attn_scale="sqrt",
            num_layers_k_proj=-1,
            num_layers_v_proj=-1,
            qk_norm=config.qk_norm,
            rmsnorm=config.rmsnorm,
            implementation=config.implementation,
            mlp_implementation=config.mlp_implementation,
        ),
        initial_latents=normal(LINEAR_STD)(rngs.params(), shape),
        rms_epsilon=FLAREPP_RMS_NORM_EPSILON,
        dtype=dtype,
        rngs=rngs,
    )


def _slice_attention(config: LatentConfig, *, dtype: DTypeLike, rngs: nnx.Rngs) -> SliceAttention:
    return SliceAttention(
        config.channel_dim,
        GridSliceConfig(num_heads=config.heads, num_slices=config.num_latents),
        token_mixer=SliceTokenAttention(config.channel_dim, num_heads=config.heads, dtype=dtype, rngs=rngs),
        clamp_temperature=True,
        dtype=dtype,
        rngs=rngs,
    )


def _adaptive_slices(config: LatentConfig, *, dtype: DTypeLike, rngs: nnx.Rngs) -> AdaptiveSliceAttention:
    sizes = SliceConfig(num_heads=config.heads, num_slices=config.num_latents)
    return AdaptiveSliceAttention(config.channel_dim, sizes, dtype=dtype, rngs=rngs)


def _slice_space(config: LatentConfig, *, dtype: DTypeLike, rngs: nnx.Rngs) -> SliceSpaceAttention:
    sizes = {"num_heads": config.heads, "num_slices": config.num_latents}
    return SliceSpaceAttention(config.channel_dim, **sizes, dtype=dtype, rngs=rngs)


def _head_norm(config: MixerConfig, dtype: DTypeLike) -> nnx.Module:
    return make_norm(config.head_dim, rmsnorm=config.rmsnorm, rms_epsilon=FLAREPP_RMS_NORM_EPSILON, dtype=dtype)


# Options and constructor of each mixer.
MIXERS: Mapping[str, tuple[type[MixerConfig], Callable[..., nnx.Module]]] = types.MappingProxyType(
    {
        "mha": (MhaConfig, _self_attention),
        "flare": (FixedRoutingConfig, _fixed_routing),
        "simplifiedflarepp": (flarepp.SimplifiedFlareppConfig, flarepp.simplified_flarepp),
        "flarepp": (flarepp.FlareppConfig, flarepp.flarepp),
        "flarepp_ablations": (flarepp.FlareppAblationsConfig, flarepp.flarepp_ablations),
        "transolver": (LatentConfig, _slice_attention),
        "transolverpp": (LatentConfig, _adaptive_slices),
        "transolver3": (LatentConfig, _slice_space),
    }
)
