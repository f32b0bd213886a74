"""Transolver++: slices chosen with a temperature per point and Gumbel noise (arXiv 2502.02414)."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_uniforms
from flare_jax.layers.dropout import Key
from flare_jax.mixers.adaptive_slice_attention import (
    AdaptiveSliceAttention,
    EvaluationNoiseConfig,
    evaluation_draws,
)
from flare_jax.mixers.slice_attention import SliceConfig
from flare_jax.models.slice_stack import InputConfig, SliceStack, SliceStackConfig


@dataclass(frozen=True, kw_only=True)
class TransolverPlusPlusConfig(InputConfig, SliceConfig, EvaluationNoiseConfig, SliceStackConfig):
    """Options of Transolver++."""


class TransolverPlusPlus(SliceStack):
    """Transolver++ on any set of points; options are those of Transolver without the structured grids.

    Noise is drawn from the `key` of the call. Without a key, in evaluation, it is drawn from a fixed one, point by
    point in their order, so that predictions are deterministic and made by slices like those of training; without
    `eval_noise` there is none.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        config: TransolverPlusPlusConfig,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.num_heads, self.num_slices = config.num_heads, config.num_slices
        mixers = [
            AdaptiveSliceAttention(config.channel_dim, config, dtype=dtype, rngs=rngs) for _ in range(config.num_blocks)
        ]
        super().__init__(in_dim, out_dim, config, mixers=mixers, always_placeholder=True, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "B N C_in"],
        mask: Bool[Array, "B N"] | None = None,
        *,
        fx: Float[Array, "B N C_fun"] | None = None,
        key: Key | None = None,
        uniforms: Sequence[Float[Array, "B H N M"]] | None = None,
    ) -> Float[Array, "B N C_out"]:
        """Return the prediction in float32; `key` is for noise and dropout, None in evaluation.

        `uniforms`, one array of [0, 1) per block, are made into the noise instead of draws from the key. Masks and
        errors are those of Transolver; also raises ValueError for `uniforms` of another number or shape.
        """
        check_uniforms(uniforms, x.shape, num_blocks=len(self.blocks), heads=self.num_heads, slices=self.num_slices)
        embedded = self.embed(x, mask, fx)
        if uniforms is None and key is None and self.config.eval_noise:
            uniforms = evaluation_draws(x.shape, blocks=len(self.blocks), heads=self.num_heads, slices=self.num_slices)
        return self.predict(self.apply_blocks(embedded, mask, key, beside=uniforms)[0])
