"""Set Transformer on points: blocks of induced set attention (arXiv 1810.00825)."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flare_jax.layers.norms import RMS_NORM_EPSILON
from flare_jax.mixers.induced_attention import InducedSetAttention
from flare_jax.mixers.mixer_options import ROUTING_IMPLEMENTATIONS, LatentConfig
from flare_jax.models.mixer_stack import MixerBlock, MixerStack, StackConfig, feed_forward
from flare_jax.options import MAX_LATENTS, MAX_RATIO, MAX_WIDTH, option


@dataclass(frozen=True, kw_only=True)
class SetTransformerConfig(StackConfig, LatentConfig):
    """Options of the Set Transformer; `act` None is the exact GELU inside of the attention, its tanh form outside."""

    channel_dim: int = option(64, help="channels", minimum=1, maximum=MAX_WIDTH)
    num_latents: int = option(64, help="inducing points", minimum=1, maximum=MAX_LATENTS)
    ffn_mlp_ratio: float = option(
        4.0, help="hidden width of feed-forward parts over channels", above=0, maximum=MAX_RATIO
    )
    implementation: str | None = option(
        None, help="kernel by which inducing points read; None: by device and shape", choices=ROUTING_IMPLEMENTATIONS
    )


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
            return MixerBlock(config, att=att, mlp=mlp, rms_epsilon=RMS_NORM_EPSILON, dtype=dtype)

        super().__init__(
            in_dim,
            out_dim,
            config,
            blocks=[block() for _ in range(config.num_blocks)],
            rms_epsilon=RMS_NORM_EPSILON,
            dtype=dtype,
            rngs=rngs,
        )
