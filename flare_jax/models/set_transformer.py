"""Set Transformer on points: blocks of induced set attention (arXiv 1810.00825)."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flare_jax.layers.norms import RMS_NORM_EPSILON
from flare_jax.mixers.induced_attention import InducedSetAttention
from flare_jax.models.mixer_stack import MixerBlock, MixerStack, MixerStackConfig, feed_forward
from flare_jax.option_groups import LatentConfig, latent_count, ratio, routing_kernel, width


@dataclass(frozen=True, kw_only=True)
class SetTransformerConfig(MixerStackConfig, LatentConfig):
    """Options of the Set Transformer; `act` None is the exact GELU inside of the attention, its tanh form outside."""

    channel_dim: int = width(64)
    num_latents: int = latent_count(64, "inducing points")
    ffn_mlp_ratio: float = ratio(4.0, "feed-forward parts", unless=("num_layers_ffn", -1))
    implementation: str | None = routing_kernel("the reads of the inducing points")


class SetTransformer(MixerStack):
    """Pre-norm blocks of induced set attention and feed-forward parts, on points of any number."""

    def __init__(
        self, in_dim: int, out_dim: int, config: SetTransformerConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ):
        def block() -> MixerBlock:
            att = InducedSetAttention(
                config.channel_dim,
                num_heads=config.heads,
                num_inducing=config.num_latents,
                act=config.act,
                implementation=config.implementation,
                dtype=dtype,
                rngs=rngs,
            )
            mlp = feed_forward(config, dtype=dtype, rngs=rngs)
            kind = {"rmsnorm": config.rmsnorm, "rms_epsilon": RMS_NORM_EPSILON}
            return MixerBlock(config.channel_dim, att=att, mlp=mlp, **kind, dtype=dtype)

        super().__init__(
            in_dim,
            out_dim,
            config,
            blocks=[block() for _ in range(config.num_blocks)],
            rms_epsilon=RMS_NORM_EPSILON,
            dtype=dtype,
            rngs=rngs,
        )
