"""Token-mixing blocks of the sequence models by name ("backends"), and the stack of them that a model holds.

A block is called as `block(x [B, N, C], mask=None, key=None) -> [B, N, C]`: `mask` [B, N] is True for real tokens, and
a random `key` switches dropout on.
"""

import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flare_jax.checks import check_choice, check_integer, check_sizes
from flare_jax.layers.rotary import RotaryEmbedding
from flare_jax.mixers.linear_attention import LinearAttentionBlock
from flare_jax.mixers.linear_no import LinearNOBlock
from flare_jax.mixers.linformer import LinformerBlock
from flare_jax.mixers.performer import PerformerBlock
from flare_jax.mixers.self_attention import SelfAttentionBlock
from flare_jax.models.sequence.flare_block import flare_block
from flare_jax.models.sequence.flarepp_block import flarepp_block
from flare_jax.models.sequence.pairwise_blocks import ema_block, third_order_block
from flare_jax.models.sequence.state_blocks import (
    multilinear_block,
    quad_block,
    strassen_block,
    triple1_block,
    triple_block,
)
from flare_jax.signatures import check_options, keyword_options

# What the model itself passes to every block; `rope` only to blocks that take it.
_SHARED = ("num_heads", "act", "rmsnorm", "rope", "dtype", "rngs")


@dataclass(frozen=True)
class Backend:
    """A constructor of blocks, what they are in one line, and their paper.

    The constructor takes `channel_dim`, the keyword arguments `num_heads`, `act`, `rmsnorm`, `dtype` and `rngs`, `rope`
    if the backend has rotary embeddings, and its options. An option `seq_len` is the largest number of tokens; it has
    the value `max_length` of the model unless set.
    """

    constructor: Callable[..., nnx.Module]
    summary: str
    paper: str

    def options(self) -> dict[str, inspect.Parameter]:
        """Return the options that belong to this backend alone."""
        return keyword_options(self.constructor, excluded=_SHARED)


BACKENDS: Mapping[str, Backend] = types.MappingProxyType(
    {
        "transformer": Backend(SelfAttentionBlock, "softmax attention, O(N²)", "arXiv 1706.03762"),
        "linformer": Backend(LinformerBlock, "softmax over k sums of the keys, O(N·k)", "arXiv 2006.04768"),
        "flare": Backend(flare_block, "gather to and scatter from M latents, O(N·M)", "arXiv 2508.12594"),
        "flarepp": Backend(flarepp_block, "FLARE with queries gathered from the tokens, O(N·M)", "arXiv 2608.11519"),
        "linear": Backend(LinearAttentionBlock, "normalised linear attention, O(N·D)", "arXiv 2006.16236"),
        "linear_no": Backend(LinearNOBlock, "linear attention with softmax features, O(N·D)", "arXiv 2511.06294"),
        "performer": Backend(PerformerBlock, "random positive features, O(N·M)", "arXiv 2009.14794"),
        "ema": Backend(ema_block, "gated attention on a moving average, O(N²)", "arXiv 2209.10655"),
        "multilinear": Backend(multilinear_block, "product of several linear states, O(N·D)", "no paper"),
        "strassen": Backend(strassen_block, "gated products of two linear states, O(N·D)", "no paper"),
        "triple": Backend(triple_block, "state of third order, O(N·D²)", "no paper"),
        "triple1": Backend(triple1_block, "triple with deep projections and unit features, O(N·D²)", "no paper"),
        "quad": Backend(quad_block, "state of fourth order, O(N·D³)", "no paper"),
        "third_order": Backend(third_order_block, "joint softmax over pairs of tokens, O(N³)", "arXiv 2501.19215"),
    }
)


def make_blocks(
    backend: str,
    backend_options: Mapping[str, Any],
    *,
    num_blocks: int,
    channel_dim: int,
    num_heads: int | None,
    max_length: int,
    num_extra_tokens: int = 0,
    act: str | None = None,
    rmsnorm: bool = False,
    rope_mode: str | None = None,
    dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> nnx.List:
    """Return `num_blocks` blocks of a backend for sequences of up to `max_length` tokens and `num_extra_tokens`.

    `rope_mode`, if given, puts rotary position embeddings of that mode into all of them. Raises ValueError for an
    unknown backend or option, and if the backend has no rotary embeddings.
    """
    check_choice("backend", backend, BACKENDS)
    check_sizes(num_blocks=num_blocks, channel_dim=channel_dim, max_length=max_length)
    entry = BACKENDS[backend]
    known = entry.options()
    options = dict(backend_options)
    if "seq_len" in known:
        options["seq_len"] = check_integer("seq_len", options.get("seq_len", max_length)) + num_extra_tokens
    options = check_options(f"backend {backend!r}", [entry.constructor], known, options)
    if rope_mode is not None:
        # Without parameters, one object serves all blocks.
        options["rope"] = _make_rope(backend, max_length + num_extra_tokens, rope_mode)
    return nnx.List(
        [
            entry.constructor(
                channel_dim, num_heads=num_heads, act=act, rmsnorm=rmsnorm, **options, dtype=dtype, rngs=rngs
            )
            for _ in range(num_blocks)
        ]
    )


def _make_rope(backend: str, length: int, mode: str) -> RotaryEmbedding:
    """Return the rotary embedding, or raise if the blocks of this backend take none."""
    with_rope = [name for name, entry in BACKENDS.items() if "rope" in keyword_options(entry.constructor)]
    if backend not in with_rope:
        raise ValueError(
            f"pos_embed is 'rope' but backend {backend!r} has no rotary embeddings; "
            f"choose pos_embed 'sin' or 'abs', or one of the backends {', '.join(with_rope)}"
        )
    return RotaryEmbedding(length, mode)
