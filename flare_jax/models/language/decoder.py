"""A causal decoder: embedding, pre-norm blocks of a causal mixer and a gated MLP, logits of the next token."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from flare_jax.checks import check_dtype, check_integer
from flare_jax.layers.dropout import Key, dropout, split_key
from flare_jax.layers.embeddings import TokenEmbedding
from flare_jax.layers.linear import Linear
from flare_jax.layers.norms import RMSNorm
from flare_jax.layers.swiglu import SwiGLU
from flare_jax.mixers.causal_streams import DecoderConfig, Places

# Logits that are held at once while losses are computed: 1 GiB in float32.
_STORED_LOGITS = 2**28


class DecoderState(NamedTuple):
    """What a decoder needs of earlier tokens: how many they were `[B]`, and the state of the mixer of each block."""

    position: Int[Array, "B"]
    mixers: tuple[Any, ...]


class DecoderBlock(nnx.Module):
    """`x + mixer(mixer_norm x)`, then `x + mlp(mlp_norm x)`."""

    def __init__(self, mixer: nnx.Module, config: DecoderConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        def norm() -> RMSNorm:
            return RMSNorm(config.channel_dim, epsilon=config.norm_epsilon, dtype=dtype)

        self.dropout = config.dropout
        self.mixer_norm, self.mixer = norm(), mixer
        self.mlp_norm = norm()
        self.mlp = SwiGLU(config.channel_dim, config.hidden_width, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B N C"], places: Places, state: Any = None, key: Key | None = None
    ) -> tuple[Float[Array, "B N C"], Any]:
        """Return the tokens after the block, and the state of its mixer if one is given to go on from."""
        mixer_key, mlp_key = split_key(key, 2)
        mixed, state = self.mixer(self.mixer_norm(x), places, state)
        x = x + dropout(mixed, self.dropout, mixer_key)
        return x + dropout(self.mlp(self.mlp_norm(x)), self.dropout, mlp_key), state


class CausalDecoder(nnx.Module):
    """Logits of the token after every token, of a vocabulary of `vocab_size`.

    `make_mixer(config, context=..., dtype=..., rngs=...)` makes the mixer of each block; `context` is the number of
    tokens that it will be trained on. The residual stream has the compute dtype, logits are float32.
    """

    def __init__(
        self,
        vocab_size: int,
        config: DecoderConfig,
        *,
        make_mixer: Callable[..., nnx.Module],
        context: int = 1024,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_integer("vocab_size", vocab_size)
        check_integer("context", context)
        self.config, self.dtype, self.vocab_size = config, check_dtype(dtype), vocab_size
        self.embed = TokenEmbedding(vocab_size, config.channel_dim, rngs=rngs)
        self.blocks = nnx.List(
            DecoderBlock(make_mixer(config, context=context, dtype=dtype, rngs=rngs), config, dtype=dtype, rngs=rngs)
            for _ in range(config.num_blocks)
        )
        self.final_norm = RMSNorm(config.channel_dim, epsilon=config.norm_epsilon, dtype=dtype)
        head = None if config.tie else Linear(config.channel_dim, vocab_size, use_bias=False, dtype=dtype, rngs=rngs)
        self.lm_head = head
        if config.residual_scale:
            for block in self.blocks:
                for matrix in (block.mixer.o_proj.kernel, block.mlp.down_proj.kernel):
                    matrix[...] = matrix[...] / (2 * config.num_blocks) ** 0.5

    def __call__(
        self, ids: Int[Array, "B N"], documents: Int[Array, "B N"] | None = None, key: Key | None = None
    ) -> Float[Array, "B N V"]:
        """Return the logits of the next token at every token; a random `key` switches dropout on.

        `documents` numbers the documents of a row from 0 on, of which no token sees another one.
        """
        return self.logits(self._features(ids, documents, key))

    def losses(
        self,
        ids: Int[Array, "B N"],
        labels: Int[Array, "B N"],
        documents: Int[Array, "B N"] | None = None,
        key: Key | None = None,
    ) -> Float[Array, "B N"]:
        """Return the cross-entropy of every label in nats, 0 for negative labels, without all logits at once."""
        return self.scores(ids, labels, documents, key)[0]

    def scores(
        self,
        ids: Int[Array, "B N"],
        labels: Int[Array, "B N"],
        documents: Int[Array, "B N"] | None = None,
        key: Key | None = None,
        *,
        most: int | None = None,
    ) -> tuple[Float[Array, "B _"], Bool[Array, "B _"]]:
        """Return `losses`, and whether each label is the likeliest token; False for negative labels.

        Where a row has at most `most` labels the scores may be those of the labels alone, `[B, most]` in their order:
        logits of tokens without a label cost as much as the others.
        """
        x = self._features(ids, documents, key)
        if most is not None:
            places = jnp.argsort(labels < 0, axis=1, stable=True)[:, :most]
            x, labels = jnp.take_along_axis(x, places[..., None], axis=1), jnp.take_along_axis(labels, places, axis=1)
        return self._scores(x, labels)

    def scores_after(
        self, ids: Int[Array, "B N"], labels: Int[Array, "B N"], state: DecoderState
    ) -> tuple[tuple[Float[Array, "B N"], Bool[Array, "B N"]], DecoderState]:
        """Return `scores` of tokens that follow those of the state, and the state after them."""
        x, state = self._extend(ids, state, None)
        return self._scores(x, labels), state

    def _scores(self, x: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        def of_tokens(x: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits = self.logits(x)
            chosen = jnp.take_along_axis(logits, jnp.maximum(labels, 0)[..., None], axis=-1)[..., 0]
            losses = jnp.where(labels >= 0, jax.nn.logsumexp(logits, axis=-1) - chosen, 0.0)
            return losses, jnp.argmax(logits, axis=-1) == labels

        batch, points = labels.shape
        count = min(points, -(-batch * points * self.vocab_size // _STORED_LOGITS))
        if count == 1:
            return of_tokens(x, labels)
        padding = -points % count

        def cut(x: jax.Array) -> jax.Array:
            x = jnp.pad(x, ((0, 0), (0, padding), *((0, 0),) * (x.ndim - 2)))
            return jnp.moveaxis(x.reshape(batch, count, -1, *x.shape[2:]), 1, 0)

        found = jax.lax.map(lambda part: jax.checkpoint(of_tokens)(*part), (cut(x), cut(labels)))
        return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(batch, -1)[:, :points], found)

    def init_state(self, batch: int, max_length: int) -> DecoderState:
        """Return the state before the first token; a softmax mixer has room for `max_length` tokens, others for any."""
        check_integer("batch", batch)
        check_integer("max_length", max_length)
        mixers = tuple(block.mixer.init_state(batch, max_length) for block in self.blocks)
        return DecoderState(jnp.zeros(batch, jnp.int32), mixers)

    def prefill(
        self, ids: Int[Array, "B N"], state: DecoderState, lengths: Int[Array, "B"] | None = None
    ) -> tuple[Float[Array, "B V"], DecoderState]:
        """Return the logits after the last real token of each row, and the state after it.

        The first `lengths` tokens of a row are real, all by default; the rest is padding of any number. A prompt may be
        given in parts, one call after another: a row that has ended has length 0, keeps its state and gets logits
        that mean nothing. Raises ValueError for arrays of other shapes, and for more tokens than the state can hold.
        """
        _check_tokens(ids, 2)
        x, state = self._extend(ids, state, lengths)
        last = jnp.full(ids.shape[0], ids.shape[1]) if lengths is None else lengths
        x = jnp.take_along_axis(x, jnp.maximum(last - 1, 0)[:, None, None], axis=1)
        return self.logits(x)[:, 0], state

    def decode_step(
        self, ids: Int[Array, "B"], state: DecoderState, active: Array | None = None
    ) -> tuple[Float[Array, "B V"], DecoderState]:
        """Return the logits after one more token of each row, and the state; rows that are not `active` keep theirs."""
        _check_tokens(ids, 1)
        x, state = self._extend(ids[:, None], state, None if active is None else active.astype(jnp.int32))
        return self.logits(x)[:, 0], state

    def logits(self, x: Float[Array, "B N C"]) -> Float[Array, "B N V"]:
        """Return the float32 logits of features."""
        matrix = self.embed.embedding[...].T if self.lm_head is None else self.lm_head.kernel[...]
        return jnp.matmul(x, matrix.astype(x.dtype), preferred_element_type=jnp.float32)

    def _features(self, ids: jax.Array, documents: jax.Array | None, key: Key | None) -> jax.Array:
        """Return the normalised output of the last block."""
        _check_tokens(ids, 2)
        positions = jnp.broadcast_to(jnp.arange(ids.shape[1], dtype=jnp.int32), ids.shape)
        if documents is not None:
            begun = jnp.diff(documents, axis=1, prepend=documents[:, :1]) > 0
            positions = positions - jax.lax.cummax(jnp.where(begun, positions, 0), axis=1)
        places = Places(positions, documents)
        x = self.embed(ids).astype(self.dtype)
        for block, block_key in zip(self.blocks, split_key(key, len(self.blocks)), strict=True):

            def run(x: jax.Array, block: DecoderBlock = block, block_key: Key | None = block_key) -> jax.Array:
                return block(x, places, None, block_key)[0]

            x = (jax.checkpoint(run) if self.config.remat else run)(x)
        return self.final_norm(x)

    def _extend(self, ids: jax.Array, state: DecoderState, lengths: jax.Array | None) -> tuple[jax.Array, DecoderState]:
        rows = len(ids)
        if state.position.shape != (rows,) or (lengths is not None and lengths.shape != (rows,)):
            found = f"{len(state.position)}" + ("" if lengths is None else f" and lengths {lengths.shape}")
            raise ValueError(f"ids has {rows} rows, but the state has {found}; begin with init_state({rows}, ...)")
        places = Places(state.position[:, None] + jnp.arange(ids.shape[1], dtype=jnp.int32), None, lengths)
        x, mixers = self.embed(ids).astype(self.dtype), []
        for block, mixer_state in zip(self.blocks, state.mixers, strict=True):
            x, mixer_state = block(x, places, mixer_state)
            mixers.append(mixer_state)
        added = ids.shape[1] if lengths is None else lengths
        return self.final_norm(x), DecoderState(state.position + added, tuple(mixers))


def _check_tokens(ids: jax.Array, axes: int) -> None:
    """Raise ValueError unless `ids` are integers with so many axes, at least one along each."""
    if ids.ndim != axes or not jnp.issubdtype(ids.dtype, jnp.integer) or 0 in ids.shape:
        wanted = "[B, N]" if axes == 2 else "[B]"
        raise ValueError(f"ids has shape {ids.shape} and dtype {ids.dtype}; give numbers of tokens, integers {wanted}")
