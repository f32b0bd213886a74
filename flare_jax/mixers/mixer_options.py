"""Options that the mixers of the shared backbone have in common."""

from dataclasses import dataclass

from flare_jax.checks import check_head_dim
from flare_jax.options import MAX_HEADS, MAX_LATENTS, MAX_WIDTH, Config, option

# The names of kernels.residual_mlp, and those of kernels.flare_mixer that kernels.gather has as well.
MLP_IMPLEMENTATIONS = ("reference", "pallas")
ROUTING_IMPLEMENTATIONS = ("reference", "xla", "pallas")


@dataclass(frozen=True, kw_only=True)
class MixerConfig(Config):
    """Widths and norms of a token mixer."""

    channel_dim: int = option(128, help="channels", minimum=1, maximum=MAX_WIDTH)
    num_heads: int | None = option(
        8, help="heads, which divide the channels; None: of width 8", minimum=1, maximum=MAX_HEADS
    )
    rmsnorm: bool = option(False, help="RMS norms instead of layer norms")

    @property
    def heads(self) -> int:
        """The number of heads."""
        return self.channel_dim // 8 if self.num_heads is None else self.num_heads

    @property
    def head_dim(self) -> int:
        """The channels of one head."""
        return self.channel_dim // self.heads

    def check_together(self) -> None:
        """Raise ValueError unless the heads divide the channels."""
        super().check_together()
        check_head_dim(self.channel_dim, self.heads)


@dataclass(frozen=True, kw_only=True)
class LatentConfig(MixerConfig):
    """The same with latents, or slices."""

    num_latents: int = option(64, help="latents of each head", minimum=1, maximum=MAX_LATENTS)


@dataclass(frozen=True, kw_only=True)
class RoutingConfig(LatentConfig):
    """The same with the kernels of the mixers that route through latents."""

    implementation: str | None = option(
        None, help="kernel of the attention calls; None: by device and shape", choices=ROUTING_IMPLEMENTATIONS
    )
    mlp_implementation: str | None = option(
        None, help="kernel of the maps of the points; None: by device and shape", choices=MLP_IMPLEMENTATIONS
    )
