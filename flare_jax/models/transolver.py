"""Transolver: attention among learned slices of the points, on any mesh or a structured grid (arXiv 2402.02366)."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flare_jax.mixers.slice_attention import GridSliceConfig, SliceAttention
from flare_jax.mixers.slice_tokens import SliceTokenAttention
from flare_jax.models.slice_stack import GridInputConfig, SliceStack, SliceStackConfig


@dataclass(frozen=True, kw_only=True)
class TransolverConfig(GridInputConfig, GridSliceConfig, SliceStackConfig):
    """Options of Transolver."""


class Transolver(SliceStack):
    """Transolver; with a `grid_shape` of 1 to 3 axes the variant for structured grids, points last axis fastest.

    On a structured grid the projections of the points are convolutions and the temperatures are clamped. `dtype` is the
    compute dtype. Raises ValueError if `num_heads` does not divide `channel_dim`.
    """

    def __init__(
        self, in_dim: int, out_dim: int, config: TransolverConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ):
        def make_mixer() -> SliceAttention:
            exchange = SliceTokenAttention(config.channel_dim, num_heads=config.num_heads, dtype=dtype, rngs=rngs)
            return SliceAttention(config.channel_dim, config, token_mixer=exchange, dtype=dtype, rngs=rngs)

        mixers = [make_mixer() for _ in range(config.num_blocks)]
        super().__init__(in_dim, out_dim, config, mixers=mixers, dtype=dtype, rngs=rngs)
