"""Options that many models and mixers have, as base classes of their configurations."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from flare_jax.checks import check_head_dim
from flare_jax.layers.activations import FEED_FORWARD_ACTIVATIONS
from flare_jax.options import MAX_BLOCKS, MAX_HEADS, MAX_LATENTS, MAX_LAYERS, MAX_RATIO, MAX_WIDTH, Config, option

# The names of kernels.residual_mlp, and those of kernels.flare_mixer that kernels.gather has as well.
MLP_IMPLEMENTATIONS = ("reference", "pallas")
ROUTING_IMPLEMENTATIONS = ("reference", "xla", "pallas")


def width(default: int) -> Any:
    """Return the option `channel_dim`."""
    return option(default, help="channels of every point between embedding and head", minimum=1, maximum=MAX_WIDTH)


def blocks(default: int, what: str = "blocks one after the other", minimum: int = 1) -> Any:
    """Return an option that counts blocks."""
    return option(default, help=f"number of {what}", minimum=minimum, maximum=MAX_BLOCKS)


def heads(default: int | None, otherwise: str = "") -> Any:
    """Return the option `num_heads`; `otherwise` says how many there are where it is None."""
    text = "attention heads, a divisor of channel_dim" + (otherwise and f"; None: {otherwise}")
    return option(default, help=text, minimum=1, maximum=MAX_HEADS)


def latent_count(default: Any = dataclasses.MISSING, what: str = "latents of each head") -> Any:
    """Return the option `num_latents`; without a default it has to be given."""
    return option(default, help=what, minimum=1, maximum=MAX_LATENTS)


def routing_kernel(what: str) -> Any:
    """Return the option `implementation` of what gathers with `kernels.gather` or `kernels.flare_mixer`."""
    return option(None, help=f"kernel of {what}; None: by device and shape", choices=ROUTING_IMPLEMENTATIONS)


def mlp_kernel(what: str = "the residual MLPs") -> Any:
    """Return the option `mlp_implementation`."""
    text = f"kernel of {what} (kernels.residual_mlp); None: by device and shape"
    return option(None, help=text, choices=MLP_IMPLEMENTATIONS)


def depth(default: int, what: str, *, minimum: int = -1, **conditions: Any) -> Any:
    """Return an option that counts the inner layers of the MLP `what`."""
    single = "; -1: a single linear layer" if minimum == -1 else ""
    text = f"inner layers of the {what}{single}"
    return option(default, help=text, minimum=minimum, maximum=MAX_LAYERS, **conditions)


def ratio(default: float, what: str, **conditions: Any) -> Any:
    """Return an option that gives the hidden width of the MLP `what` as a multiple of `channel_dim`."""
    text = f"hidden width of the {what} over channel_dim"
    return option(default, help=text, above=0, maximum=MAX_RATIO, **conditions)


def recomputed() -> Any:
    """Return the option `remat`."""
    return option(False, help="compute blocks again in the backward pass, for a fraction of the memory")


def rate(what: str) -> Any:
    """Return an option that is a rate of dropout, 0 by default."""
    return option(0.0, help=f"dropout rate of {what}", minimum=0, below=1)


@dataclass(frozen=True, kw_only=True)
class BlockConfig(Config):
    """Options of the pre-norm blocks around most mixers."""

    num_heads: int | None = heads(None, "channel_dim // 16")
    act: str | None = option(
        None, help="activation; 'gelu' and None: the one of the original's blocks", choices=FEED_FORWARD_ACTIVATIONS
    )
    rmsnorm: bool = option(False, help="RMS norms instead of layer norms")
    attn_drop: float = rate("the attention weights")
    proj_drop: float = rate("the output of each branch")


@dataclass(frozen=True, kw_only=True)
class TransformerBlockConfig(BlockConfig):
    """Options of blocks whose feed-forward part has two layers."""

    mlp_ratio: float = ratio(4.0, "feed-forward part")


@dataclass(frozen=True, kw_only=True)
class MixerConfig(Config):
    """Widths and norms of the mixers of the shared backbone."""

    channel_dim: int = width(128)
    num_heads: int | None = heads(8, "of width 8")
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

    num_latents: int = latent_count(64)


@dataclass(frozen=True, kw_only=True)
class RoutingConfig(LatentConfig):
    """The same with the kernels of the mixers that route through latents."""

    implementation: str | None = routing_kernel("the attention calls")
    mlp_implementation: str | None = mlp_kernel()
