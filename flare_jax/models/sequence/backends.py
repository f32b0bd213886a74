"""Token-mixing blocks of the sequence models by name ("backends"), and the stack of them that a model holds.

A block is called as `block(x [B, N, C], mask=None, key=None) -> [B, N, C]`: `mask` [B, N] is True for real tokens, and
a random `key` switches dropout on.
"""

import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flare_jax.checks import check_choice
from flare_jax.layers.rotary import RotaryEmbedding
from flare_jax.mixers.ema_attention import EmaBlock, EmaConfig
from flare_jax.mixers.linear_attention import LinearAttentionBlock, LinearAttentionConfig
from flare_jax.mixers.linear_no import LinearNOBlock, LinearNOConfig
from flare_jax.mixers.linformer import LinformerBlock, LinformerConfig
from flare_jax.mixers.multilinear_attention import MultilinearBlock, MultilinearConfig
from flare_jax.mixers.performer import PerformerBlock, PerformerConfig
from flare_jax.mixers.quad_attention import QuadBlock
from flare_jax.mixers.self_attention import SelfAttentionBlock, SelfAttentionConfig
from flare_jax.mixers.state_attention import StateBlockConfig
from flare_jax.mixers.strassen_attention import StrassenBlock
from flare_jax.mixers.third_order_attention import ThirdOrderBlock, ThirdOrderConfig
from flare_jax.mixers.triple_attention import DeepTripleBlock, DeepTripleConfig, TripleBlock, TripleConfig
from flare_jax.models.flare import TokenFLAREConfig, flare_block
from flare_jax.models.sequence.flarepp_block import TokenFlareppConfig, flarepp_block
from flare_jax.options import Config, Option, options_of


@dataclass(frozen=True)
class Backend:
    """A class of blocks, its options, what it is in one line, and its paper.

    Blocks are built as `constructor(channel_dim, config, dtype=..., rngs=...)`, with `rope=...` if they are `rotary`.
    An option `seq_len` is the largest number of tokens.
    """

    constructor: Callable[..., nnx.Module]
    config: type[Config]
    summary: str
    paper: str
    rotary: bool = False

    def options(self) -> Mapping[str, Option]:
        """Return the options of the blocks by name."""
        return options_of(self.config)


BACKENDS: Mapping[str, Backend] = types.MappingProxyType(
    {
        "transformer": Backend(
            SelfAttentionBlock, SelfAttentionConfig, "softmax attention, O(N²)", "arXiv 1706.03762", rotary=True
        ),
        "linformer": Backend(
            LinformerBlock, LinformerConfig, "softmax over k sums of the keys, O(N·k)", "arXiv 2006.04768", rotary=True
        ),
        "flare": Backend(
            flare_block,
            TokenFLAREConfig,
            "gather to and scatter from M latents, O(N·M)",
            "arXiv 2508.12594",
            rotary=True,
        ),
        "flarepp": Backend(
            flarepp_block,
            TokenFlareppConfig,
            "FLARE with queries gathered from the tokens, O(N·M)",
            "arXiv 2608.11519",
            rotary=True,
        ),
        "linear": Backend(
            LinearAttentionBlock,
            LinearAttentionConfig,
            "normalised linear attention, O(N·D)",
            "arXiv 2006.16236",
            rotary=True,
        ),
        "linear_no": Backend(
            LinearNOBlock, LinearNOConfig, "linear attention with softmax features, O(N·D)", "arXiv 2511.06294"
        ),
        "performer": Backend(
            PerformerBlock, PerformerConfig, "random positive features, O(N·M)", "arXiv 2009.14794", rotary=True
        ),
        "ema": Backend(EmaBlock, EmaConfig, "gated attention on a moving average, O(N²)", "arXiv 2209.10655"),
        "multilinear": Backend(
            MultilinearBlock, MultilinearConfig, "product of several linear states, O(N·D)", "no paper"
        ),
        "strassen": Backend(StrassenBlock, StateBlockConfig, "gated products of two linear states, O(N·D)", "no paper"),
        "triple": Backend(TripleBlock, TripleConfig, "state of third order, O(N·D²)", "no paper"),
        "triple1": Backend(
            DeepTripleBlock,
            DeepTripleConfig,
            "triple with deep projections and unit features, O(N·D²)",
            "no paper",
        ),
        "quad": Backend(QuadBlock, StateBlockConfig, "state of fourth order, O(N·D³)", "no paper"),
        "third_order": Backend(
            ThirdOrderBlock, ThirdOrderConfig, "joint softmax over pairs of tokens, O(N³)", "arXiv 2501.19215"
        ),
    }
)


def block_config(backend: str, options: Mapping[str, Any], *, max_length: int) -> Config:
    """Return the configuration of the blocks of a backend; `seq_len` is `max_length` unless given.

    Raises ValueError for an unknown backend or option, and for a value of the wrong type or out of range.
    """
    check_choice("backend", backend, BACKENDS)
    length = {"seq_len": max_length} if "seq_len" in BACKENDS[backend].options() else {}
    return BACKENDS[backend].config.from_mapping({**length, **options}, owner=f"backend {backend!r}")


def make_blocks(
    backend: str,
    config: Config,
    *,
    num_blocks: int,
    channel_dim: int,
    max_length: int,
    num_extra_tokens: int = 0,
    rope_mode: str | None = None,
    dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> nnx.List:
    """Return `num_blocks` blocks of a backend for sequences of up to `max_length` tokens and `num_extra_tokens`.

    `rope_mode`, if given, puts rotary position embeddings of that mode into all of them. Raises ValueError for an
    unknown backend, for options of another one, and if the backend has no rotary embeddings.
    """
    check_choice("backend", backend, BACKENDS)
    entry = BACKENDS[backend]
    if not isinstance(config, entry.config):
        raise ValueError(
            f"the options are of type {type(config).__name__} but backend {backend!r} has a {entry.config.__name__}; "
            "pass one"
        )
    if "seq_len" in entry.options():
        config = config.replace(seq_len=config.seq_len + num_extra_tokens)
    # Without parameters, one object serves all blocks.
    rope = {} if rope_mode is None else {"rope": _make_rope(backend, max_length + num_extra_tokens, rope_mode)}
    return nnx.List([entry.constructor(channel_dim, config, **rope, dtype=dtype, rngs=rngs) for _ in range(num_blocks)])


def _make_rope(backend: str, length: int, mode: str) -> RotaryEmbedding:
    """Return the rotary embedding, or raise if the blocks of this backend take none."""
    if not BACKENDS[backend].rotary:
        with_rope = [name for name, entry in BACKENDS.items() if entry.rotary]
        raise ValueError(
            f"pos_embed is 'rope' but backend {backend!r} has no rotary embeddings; "
            f"choose pos_embed 'sin' or 'abs', or one of the backends {', '.join(with_rope)}"
        )
    return RotaryEmbedding(length, mode)
