"""FLARE whose blocks can share one feed-forward part and one attention (code of arXiv 2508.12594)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array

from flare_jax.layers.norms import LayerNorm, RMSNorm, make_norm
from flare_jax.layers.residual_mlp import ResidualMLP
from flare_jax.mixers.flare_attention import FlareAttention
from flare_jax.models.flare import FLAREApplication, FLAREStack, TiedFLAREConfig, flare_feed_forward
from flare_jax.options import option


@dataclass(frozen=True, kw_only=True)
class UnloopyConfig(TiedFLAREConfig):
    """Options of Unloopy."""

    shared_ffn: bool = option(False, help="one feed-forward part for all blocks")
    shared_att: bool = option(False, help="one attention, latents included, for all blocks")


@dataclass(frozen=True)
class CompletedBlock(FLAREApplication):
    """A FLARE block of norms, attention and feed-forward part, of which the model may own some."""

    norm1: LayerNorm | RMSNorm
    att: FlareAttention
    norm2: LayerNorm | RMSNorm
    mlp: ResidualMLP


class UnloopyBlock(nnx.Module):
    """The norms of a FLARE block, and its attention and feed-forward part unless the model shares them (None)."""

    def __init__(
        self,
        channel_dim: int,
        *,
        att: FlareAttention | None,
        ffn: ResidualMLP | None,
        rmsnorm: bool,
        dtype: DTypeLike = jnp.float32,
    ):
        self.norm1 = make_norm(channel_dim, rmsnorm=rmsnorm, dtype=dtype)
        self.att = att
        self.norm2 = make_norm(channel_dim, rmsnorm=rmsnorm, dtype=dtype)
        self.ffn = ffn


class Unloopy(FLAREStack):
    """FLARE with `shared_ffn` and `shared_att`: one such part for all blocks; norms are per block."""

    def __init__(
        self, in_dim: int, out_dim: int, config: UnloopyConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ):
        width = config.channel_dim

        def make_att() -> FlareAttention:
            return FlareAttention(width, config, dtype=dtype, rngs=rngs)

        def make_ffn() -> ResidualMLP:
            return flare_feed_forward(width, config, dtype=dtype, rngs=rngs)

        # Blocks and shared parts draw their random numbers before the projections.
        blocks = [
            UnloopyBlock(
                width,
                att=None if config.shared_att else make_att(),
                ffn=None if config.shared_ffn else make_ffn(),
                rmsnorm=config.rmsnorm,
                dtype=dtype,
            )
            for _ in range(config.num_blocks)
        ]
        self.att = make_att() if config.shared_att else None
        self.ffn = make_ffn() if config.shared_ffn else None
        super().__init__(in_dim, out_dim, config, blocks=blocks, dtype=dtype, rngs=rngs)

    def applications(self) -> Sequence[Callable[..., Array]]:
        """Return every block completed by the attention and the feed-forward part that the model shares."""
        completed = [
            CompletedBlock(
                block.norm1,
                block.att if self.att is None else self.att,
                block.norm2,
                block.ffn if self.ffn is None else self.ffn,
            )
            for block in self.blocks
        ]
        return completed * self.config.num_passes
