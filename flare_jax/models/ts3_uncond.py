"""TS3: TS1 with slice scores mixed across heads, and a transformer layer on the slices; no paper describes it."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flare_jax.layers.activations import TS3_ACTIVATIONS
from flare_jax.mixers.learned_slice_attention import MixedSliceAttention, MixedSliceConfig
from flare_jax.models.ts1_uncond import LearnedSliceStack, LearnedSliceStackConfig
from flare_jax.options import option


@dataclass(frozen=True, kw_only=True)
class TS3Config(MixedSliceConfig, LearnedSliceStackConfig):
    """Options of TS3."""

    act: str | None = option(None, help="activation; 'gelu' and None: the tanh GELU", choices=TS3_ACTIVATIONS)


class TS3Uncond(LearnedSliceStack):
    """TS3, without random parts.

    `qk_norm` replaces the softmax over the slices by a constant factor. With a `grid_shape` of 1 to 3 axes keys and
    values are convolutions on the grid, where masks are refused. `dtype` is the compute dtype. Raises ValueError if
    `num_heads` does not divide `channel_dim`.
    """

    def __init__(self, in_dim: int, out_dim: int, config: TS3Config, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        mixers = [
            MixedSliceAttention(config.channel_dim, config, dtype=dtype, rngs=rngs) for _ in range(config.num_blocks)
        ]
        super().__init__(in_dim, out_dim, config, mixers=mixers, activations=TS3_ACTIVATIONS, dtype=dtype, rngs=rngs)
