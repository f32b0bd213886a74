"""FLARE++ as a model of its own, and FLARE with the routing of FLARE++ (arXiv 2608.11519, 2508.12594)."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flare_jax.layers.norms import FLAREPP_RMS_NORM_EPSILON
from flare_jax.mixers.flarepp import DeepFlareppConfig, FlareppConfig, deep_flarepp, flarepp
from flare_jax.mixers.synthesized_routing import SynthesizedRouting
from flare_jax.models.mixer_stack import MixerBlock, MixerStack, StackConfig, feed_forward
from flare_jax.options import MAX_LATENTS, MAX_LAYERS, MAX_RATIO, MAX_WIDTH, option


@dataclass(frozen=True, kw_only=True)
class FLAREPPConfig(StackConfig, FlareppConfig):
    """Options of FLARE++."""

    num_latents: int = option(32, help="latents of each head", minimum=1, maximum=MAX_LATENTS)


@dataclass(frozen=True, kw_only=True)
class FLAREWithSynthesisConfig(StackConfig, DeepFlareppConfig):
    """Options of FLARE with the routing of FLARE++; sizes are those of FLARE."""

    channel_dim: int = option(64, help="channels", minimum=1, maximum=MAX_WIDTH)
    num_latents: int = option(64, help="latents of each head", minimum=1, maximum=MAX_LATENTS)
    num_layers_ffn: int = option(
        3, help="inner layers of the feed-forward parts; -1: linear", minimum=-1, maximum=MAX_LAYERS
    )
    ffn_mlp_ratio: float = option(
        1.0, help="hidden width of feed-forward parts over channels", above=0, maximum=MAX_RATIO
    )


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

    Only the queries of its mixers are those of FLARE++: gated, from one more gather, on logits scaled by 1/√D.
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
    config: StackConfig, mixers: list[SynthesizedRouting], *, dtype: DTypeLike, rngs: nnx.Rngs
) -> list[MixerBlock]:
    def block(mixer: SynthesizedRouting) -> MixerBlock:
        mlp = feed_forward(config, residual=True, dtype=dtype, rngs=rngs)
        return MixerBlock(config, att=mixer, mlp=mlp, rms_epsilon=FLAREPP_RMS_NORM_EPSILON, dtype=dtype)

    return [block(mixer) for mixer in mixers]
