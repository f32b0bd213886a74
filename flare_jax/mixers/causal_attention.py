"""Causal softmax attention as a token mixer, with a cache of keys and values: the baseline that keeps everything."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from flare_jax.layers.linear import Linear
from flare_jax.layers.norms import RMSNorm
from flare_jax.layers.rotary import check_even_heads, rotate_halves
from flare_jax.mixers.attention import IMPLEMENTATIONS, STORED_WEIGHTS, check_attention, check_fused, fused_is_chosen
from flare_jax.mixers.causal_streams import DecoderConfig, Places, filter_streams, make_convolutions
from flare_jax.mixers.chunks import map_over_chunks
from flare_jax.mixers.heads import merge_heads, split_heads
from flare_jax.options import option
from kernels import fused_attention, fused_reading


@dataclass(frozen=True, kw_only=True)
class CausalAttentionConfig(DecoderConfig):
    """Options of a decoder of softmax attention."""

    rope: bool = option(True, help="turn queries and keys by their positions")
    rope_base: float = option(10_000.0, help="base of the angles", above=0, needs="rope")
    qk_norm: bool = option(False, help="normalise queries and keys per head")
    decode_implementation: str = option(
        "xla", help="form in which a single token reads the cache; cudnn: the fused kernel, 16 bits on NVIDIA GPUs",
        choices=IMPLEMENTATIONS,
    )  # fmt: skip

    def check_together(self) -> None:
        super().check_together()
        if self.rope:
            check_even_heads(self.head_dim)


class KeyValueCache(NamedTuple):
    """Keys and values `[B, max_length, H, D]` of all tokens so far, how many these are, and tails of convolutions."""

    keys: jax.Array
    values: jax.Array
    length: jax.Array
    tails: dict[str, jax.Array]


class CausalAttention(nnx.Module):
    """Multi-head softmax attention of every token to itself and all earlier ones, scale 1/√D, without biases."""

    def __init__(
        self, config: CausalAttentionConfig, *, context: int = 1024, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ):
        channels = config.channel_dim
        linear = partial(Linear, channels, channels, use_bias=False, dtype=dtype, rngs=rngs)
        norm = partial(RMSNorm, config.head_dim, epsilon=config.norm_epsilon, dtype=dtype)
        check_attention(config.decode_implementation, dtype, "decode_implementation")
        self.config, self.dtype = config, jnp.dtype(dtype)
        self.q_proj, self.k_proj, self.v_proj = linear(), linear(), linear()
        names = ("q", "k", "v")
        convolutions = make_convolutions(names, config, dict.fromkeys(names, channels), dtype, rngs)
        self.q_conv, self.k_conv, self.v_conv = (convolutions[name] for name in names)
        self.q_norm, self.k_norm = (norm(), norm()) if config.qk_norm else (None, None)
        self.o_proj = linear()

    def init_state(self, batch: int, max_length: int) -> KeyValueCache:
        """Return a cache with room for `max_length` tokens; later ones are not kept."""
        shape = (batch, max_length, self.config.num_heads, self.config.head_dim)
        tails = {name: conv.init_tail(batch) for name, conv in self._convolutions().items() if conv is not None}
        keys, values = jnp.zeros(shape, self.dtype), jnp.zeros(shape, self.dtype)
        return KeyValueCache(keys, values, jnp.zeros(batch, jnp.int32), tails)

    def __call__(
        self, x: Float[Array, "B N C"], places: Places, state: KeyValueCache | None = None
    ) -> tuple[Float[Array, "B N C"], KeyValueCache | None]:
        """Return the mixed tokens, and the cache with them if one is given to go on from."""
        streams = {"q": self.q_proj(x), "k": self.k_proj(x), "v": self.v_proj(x)}
        streams, tails = filter_streams(streams, self._convolutions(), places, None if state is None else state.tails)
        q, k, v = (split_heads(streams[name], self.config.num_heads) for name in ("q", "k", "v"))
        q, k = self._placed(q, self.q_norm, places), self._placed(k, self.k_norm, places)
        scale = self.config.head_dim**-0.5
        if state is None:
            return self.o_proj(merge_heads(causal_attention(q, k, v, places.documents, scale=scale))), None
        if places.documents is not None:
            raise ValueError("a cache is of one document; empty it where the next one begins")
        if x.shape[1] > state.keys.shape[1]:
            raise ValueError(
                f"{x.shape[1]} tokens do not fit into a cache of {state.keys.shape[1]}; raise max_length of init_state"
            )
        rows = jnp.arange(x.shape[0])[:, None]
        positions = state.length[:, None] + jnp.arange(x.shape[1])
        keys = state.keys.at[rows, positions].set(k, mode="drop")
        values = state.values.at[rows, positions].set(v, mode="drop")
        # A piece of a prompt, of several tokens, is no reading of single tokens.
        implementation = self.config.decode_implementation if x.shape[1] == 1 else "xla"
        y = cached_attention(q, keys, values, positions, scale=scale, implementation=implementation)
        added = x.shape[1] if places.lengths is None else places.lengths
        return self.o_proj(merge_heads(y)), KeyValueCache(keys, values, state.length + added, tails)

    def _placed(self, x: jax.Array, norm: RMSNorm | None, places: Places) -> jax.Array:
        x = x if norm is None else norm(x)
        return rotate_halves(x, places.positions, self.config.rope_base) if self.config.rope else x

    def _convolutions(self) -> dict[str, nnx.Module | None]:
        return {"q": self.q_conv, "k": self.k_conv, "v": self.v_conv}


def causal_attention(
    q: Float[Array, "B N H D"],
    k: Float[Array, "B N H D"],
    v: Float[Array, "B N H D"],
    documents: Int[Array, "B N"] | None,
    *,
    scale: float,
) -> Float[Array, "B N H D"]:
    """Return attention of every token to itself and the earlier ones, of its document if `documents` numbers them.

    On a GPU and in 16 bits cuDNN's kernel serves a single document if it is long; else weights are computed in
    chunks of queries.
    """
    batch, points = q.shape[:2]
    positions = jnp.broadcast_to(jnp.arange(points), (batch, points))

    def plain(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return _in_chunks(q, k, v, positions, documents, scale)

    if documents is None and fused_is_chosen(q, points):
        fused = partial(fused_attention, scale=scale, causal=True)
        return jax.lax.platform_dependent(q, k, v, cuda=fused, default=plain)
    return plain(q, k, v)


def cached_attention(
    q: Float[Array, "B N H D"],
    keys: Float[Array, "B T H D"],
    values: Float[Array, "B T H D"],
    positions: Int[Array, "B N"],
    *,
    scale: float,
    implementation: str = "xla",
) -> Float[Array, "B N H D"]:
    """Return attention of queries at `positions` to the keys of a cache up to these.

    `implementation` is "xla", in chunks of queries, or "cudnn", the fused kernel, which is not known to be
    faster. Raises ValueError where "cudnn" cannot serve: it takes one query of a row.
    """
    if implementation == "xla":
        return _in_chunks(q, keys, values, positions, None, scale)
    if q.shape[1] != 1:
        raise ValueError(f"implementation 'cudnn' reads a cache by one token of a row, not {q.shape[1]}; use 'xla'")
    check_fused(q)
    lengths = jnp.minimum(positions[:, 0] + 1, keys.shape[1]).astype(jnp.int32)
    return fused_reading(q, keys, values, lengths, scale=scale)


def _in_chunks(
    q: jax.Array, k: jax.Array, v: jax.Array, positions: jax.Array, documents: jax.Array | None, scale: float
) -> jax.Array:
    """Attend in chunks of queries, of which all weights are held at once."""
    keys = jnp.arange(k.shape[1])

    def body(q: jax.Array, positions: jax.Array, *documents_of_q: jax.Array) -> jax.Array:
        logits = scale * jnp.einsum("bnhd,bmhd->bhnm", q, k, preferred_element_type=jnp.float32)
        seen = keys <= positions[..., None]
        if documents is not None:
            seen = seen & (documents[:, None, :] == documents_of_q[0][..., None])
        # A row that sees nothing, as padding of a chunk may, must not divide zero by zero.
        weights = jax.nn.softmax(jnp.where(seen[:, None], logits, -1e30), axis=-1).astype(v.dtype)
        return jnp.einsum("bhnm,bmhd->bnhd", weights, v, preferred_element_type=jnp.float32).astype(v.dtype)

    count = -(-q.shape[0] * q.shape[1] * q.shape[2] * k.shape[1] // STORED_WEIGHTS)
    arrays = [q, positions] + ([] if documents is None else [documents])
    return map_over_chunks(body, arrays, count)
