"""FLARE++ as a model of its own, and FLARE with the routing of FLARE++ (arXiv 2608.11519, 2508.12594)."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flare_jax.layers.norms import FLAREPP_RMS_NORM_EPSILON
from flare_jax.mixers.flarepp import DeepFlareppConfig, FlareppConfig, deep_flarepp, flarepp
from flare_jax.mixers.synthesized_routing import SynthesizedRouting
from flare_jax.models.mixer_stack import MixerBlock, MixerStack, MixerStackConfig, feed_forward
from flare_jax.option_groups import depth, latent_count, ratio, width


@dataclass(frozen=True, kw_only=True)
class FLAREPPConfig(MixerStackConfig, FlareppConfig):
    """Options of FLARE++."""

    num_latents: int = latent_count(32)


@dataclass(frozen=True, kw_only=True)
class FLAREWithSynthesisConfig(MixerStackConfig, DeepFlareppConfig):
    """Options of FLARE with the routing of FLARE++; sizes are those of FLARE."""

    channel_dim: int = width(64)
    num_latents: int = latent_count(64)
    num_layers_ffn: int = depth(3, "feed-forward parts")
    ffn_mlp_ratio: float = ratio(1.0, "feed-forward parts", unless=("num_layers_ffn", -1))


class FLAREPP(MixerStack):
    """FLARE++: the backbone with the gated mixer, and feed-forward parts with residuals where their widths agree."""

    def __init__(
        self, in_dim: int, out_dim: int, config: FLAREPPConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ):
        mixers = [flarepp(config, dtype=dtype, rngs=rngs) for _ in range(config.num_blocks)]
        blocks = _blocks(config, mixers, dtype=dtype, rngs=rngs)
        super().__init__(in_dim, out_dim, config, blocks=blocks, dtype=dtype, rngs=rngs)


class FLAREWithSynthesis(MixerStack):
    """FLARE, whose keys and values are deep residual MLPs of the points, with queries that it makes from the input.

    Only the queries of its mixers are those of FLARE++: gated, from one more gather, on logits scaled by 1/√D
    unless `attn_scale` says otherwise.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        config: FLAREWithSynthesisConfig,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        mixers = [deep_flarepp(config, dtype=dtype, rngs=rngs) for _ in range(config.num_blocks)]
        blocks = _blocks(config, mixers, dtype=dtype, rngs=rngs)
        super().__init__(in_dim, out_dim, config, blocks=blocks, dtype=dtype, rngs=rngs)


def _blocks(
    config: MixerStackConfig, mixers: list[SynthesizedRouting], *, dtype: DTypeLike, rngs: nnx.Rngs
) -> list[MixerBlock]:
    def block(mixer: SynthesizedRouting) -> MixerBlock:
        mlp = feed_forward(config, residual=True, dtype=dtype, rngs=rngs)
        kind = {"rmsnorm": config.rmsnorm, "rms_epsilon": FLAREPP_RMS_NORM_EPSILON}
        return MixerBlock(config.channel_dim, att=mixer, mlp=mlp, **kind, dtype=dtype)

    return [block(mixer) for mixer in mixers]
