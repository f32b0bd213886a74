"""Options that many models and mixers have, as base classes of their configurations."""

from dataclasses import dataclass
from typing import Any

from flare_jax.layers.activations import FEED_FORWARD_ACTIVATIONS
from flare_jax.options import MAX_BLOCKS, MAX_HEADS, MAX_LAYERS, MAX_RATIO, MAX_WIDTH, Config, option


def width(default: int) -> Any:
    """Return the option `channel_dim`."""
    return option(default, help="channels of every point between embedding and head", minimum=1, maximum=MAX_WIDTH)


def blocks(default: int, what: str = "blocks one after the other", minimum: int = 1) -> Any:
    """Return an option that counts blocks."""
    return option(default, help=f"number of {what}", minimum=minimum, maximum=MAX_BLOCKS)


def heads(default: int) -> Any:
    """Return the option `num_heads` of models that have a number by default."""
    return option(default, help="attention heads, a divisor of channel_dim", minimum=1, maximum=MAX_HEADS)


def depth(default: int, what: str, *, minimum: int = -1, **conditions: Any) -> Any:
    """Return an option that counts the inner layers of the MLP `what`."""
    single = "; -1: a single linear layer" if minimum == -1 else ""
    text = f"inner layers of the {what}{single}"
    return option(default, help=text, minimum=minimum, maximum=MAX_LAYERS, **conditions)


def ratio(default: float, what: str, **conditions: Any) -> Any:
    """Return an option that gives the hidden width of the MLP `what` as a multiple of `channel_dim`."""
    text = f"hidden width of the {what} over channel_dim"
    return option(default, help=text, above=0, maximum=MAX_RATIO, **conditions)


def rate(what: str) -> Any:
    """Return an option that is a rate of dropout, 0 by default."""
    return option(0.0, help=f"dropout rate of {what}", minimum=0, below=1)


@dataclass(frozen=True, kw_only=True)
class BlockConfig(Config):
    """Options of the pre-norm blocks around most mixers."""

    num_heads: int | None = option(
        None, help="attention heads, a divisor of channel_dim; None: channel_dim // 16", minimum=1, maximum=MAX_HEADS
    )
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
