"""The tiny recursive model: few blocks, applied again and again to a latent and an answer (arXiv 2510.04871)."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from flare_jax.checks import check_dtype
from flare_jax.layers.dropout import Key, dropout, split_key
from flare_jax.layers.embeddings import TokenEmbedding
from flare_jax.layers.initializers import linear_kernel
from flare_jax.layers.norms import make_norm
from flare_jax.models.sequence.backends import make_blocks
from flare_jax.models.sequence.head import ClassifierHead, pool_tokens
from flare_jax.models.sequence.tasks import TaskKind, find_task, resolve_pool
from flare_jax.models.sequence.wrapper import EmbeddedSequenceConfig, check_tokens, make_positions
from flare_jax.option_groups import blocks
from flare_jax.options import MAX_BLOCKS, Config, option


class RecursionState(NamedTuple):
    """What recursions carry from one to the next: answer `y` and latent `z`, both [B, N, C]."""

    y: Float[Array, "B N C"]
    z: Float[Array, "B N C"]


class Recursion(NamedTuple):
    """Result of one deep recursion: the state without gradient, the logits, and the halting logits [B, 1]."""

    state: RecursionState
    logits: Float[Array, "B *N C"]
    halt_logits: Float[Array, "B 1"]


@dataclass(frozen=True, kw_only=True)
class TRMConfig(EmbeddedSequenceConfig):
    """Options of the tiny recursive model."""

    num_steps: int = option(10, help="deep recursions of a prediction", minimum=1, maximum=MAX_BLOCKS)
    num_latent_updates: int = option(6, help="updates of the latent in a recursion", minimum=1, maximum=MAX_BLOCKS)
    num_recursions: int = option(3, help="recursions in a deep recursion", minimum=1, maximum=MAX_BLOCKS)
    num_blocks: int = blocks(2)
    ignore_mask: bool = option(False, help="drop the mask, for backends that take none")


class TinyRecursiveModel(nnx.Module):
    """Model from token numbers [B, N] to logits [B, num_labels], or [B, N, num_labels] for token-level tasks.

    With F the blocks and a norm, a latent recursion is `num_latent_updates` times z = F(x + y + z), then y = F(y + z).
    A deep recursion is `num_recursions` of these, of which the last alone has gradients, followed by the classifier on
    y and the halting head on the largest entries of y. The prediction is that of `num_steps` deep recursions from the
    learned vectors y_init and z_init. Training supervises every one of them: see `flare_jax.models.sequence.recursion`.

    `max_length` counts all tokens, and tasks have one document per sample. Everything else is as in `SequenceModel`.
    """

    def __init__(
        self,
        task: str | TaskKind,
        vocab_size: int,
        num_labels: int,
        config: TRMConfig,
        *,
        backend: str,
        blocks: Config,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        channel_dim, max_length, rmsnorm = config.channel_dim, config.max_length, blocks.rmsnorm
        self.pool = _resolve_pool(find_task(task), config.pool)
        self.num_steps, self.num_recursions = config.num_steps, config.num_recursions
        self.num_latent_updates = config.num_latent_updates
        self.masked_pool, self.ignore_mask = config.masked_pool, config.ignore_mask
        self.emb_drop = config.emb_drop
        self.dtype = check_dtype(dtype)
        self.y_init = nnx.Param(linear_kernel(rngs.params(), (channel_dim,)))
        self.z_init = nnx.Param(linear_kernel(rngs.params(), (channel_dim,)))
        self.token_embedding = TokenEmbedding(
            vocab_size, channel_dim, pad_id=config.pad_id, zero_padding=config.zero_pad_embedding, rngs=rngs
        )
        self.positions = make_positions(config.pos_embed, max_length, channel_dim, rngs=rngs)
        self.blocks = make_blocks(
            backend,
            blocks,
            num_blocks=config.num_blocks,
            channel_dim=channel_dim,
            max_length=max_length,
            rope_mode=config.rope_mode if config.pos_embed == "rope" else None,
            dtype=dtype,
            rngs=rngs,
        )
        self.final_norm = make_norm(channel_dim, rmsnorm=rmsnorm, dtype=dtype)

        def head(num_outputs: int) -> ClassifierHead:
            return ClassifierHead(
                channel_dim,
                num_outputs,
                use_norm=True,
                cls_drop=config.cls_drop,
                rmsnorm=rmsnorm,
                dtype=dtype,
                rngs=rngs,
            )

        self.head = head(num_labels)
        self.halt_head = head(1)

    def __call__(
        self, input_ids: Int[Array, "B N"], mask: Bool[Array, "B N"] | None = None, key: Key | None = None
    ) -> Float[Array, "B C_out"] | Float[Array, "B N C_out"]:
        """Return the logits of the last of `num_steps` deep recursions, in float32; the others have no gradient.

        `mask` is True for real tokens, a random `key` switches dropout on. Raises ValueError for ids and masks of
        another shape or type, and where the backend takes no mask.
        """
        early_key, last_key = split_key(key, 2)
        state = self.initial_state(input_ids)
        if self.num_steps > 1:
            frozen = _without_gradient(self)

            def step(state: RecursionState, step_key: Key | None) -> tuple[RecursionState, None]:
                return frozen.deep_recursion(input_ids, state, mask, step_key).state, None

            keys = _split_for_scan(early_key, self.num_steps - 1)
            state, _ = jax.lax.scan(step, _without_gradient(state), keys, length=self.num_steps - 1)
        return self.deep_recursion(input_ids, state, mask, last_key).logits

    def initial_state(self, input_ids: Int[Array, "B N"]) -> RecursionState:
        """Return y_init and z_init for every token."""
        shape = (*input_ids.shape, self.y_init.shape[0])
        return RecursionState(
            *(jnp.broadcast_to(start[...].astype(self.dtype), shape) for start in (self.y_init, self.z_init))
        )

    def deep_recursion(
        self,
        input_ids: Int[Array, "B N"],
        state: RecursionState,
        mask: Bool[Array, "B N"] | None = None,
        key: Key | None = None,
    ) -> Recursion:
        """Improve the answer in `state` once; gradients flow through the last of the `num_recursions` only."""
        check_tokens(input_ids, mask)
        mask = None if self.ignore_mask else mask
        embedding_key, early_key, last_key, head_key, halt_key = split_key(key, 5)
        x = dropout(self.token_embedding(input_ids), self.emb_drop, embedding_key).astype(self.dtype)
        if self.num_recursions > 1:
            frozen, x_frozen = _without_gradient((self, x))

            def recursion(state: RecursionState, recursion_key: Key | None) -> tuple[RecursionState, None]:
                return frozen.latent_recursion(x_frozen, state, mask, recursion_key), None

            keys = _split_for_scan(early_key, self.num_recursions - 1)
            state, _ = jax.lax.scan(recursion, _without_gradient(state), keys, length=self.num_recursions - 1)
        state = self.latent_recursion(x, state, mask, last_key)
        pooled_mask = mask if self.masked_pool else None
        logits = self.head(pool_tokens(state.y, self.pool, pooled_mask), head_key)
        halt_logits = self.halt_head(pool_tokens(state.y, "max", pooled_mask), halt_key)
        return Recursion(_without_gradient(state), logits, halt_logits)

    def latent_recursion(
        self,
        x: Float[Array, "B N C"],
        state: RecursionState,
        mask: Bool[Array, "B N"] | None = None,
        key: Key | None = None,
    ) -> RecursionState:
        """Update the latent `num_latent_updates` times for the embedded tokens x, then the answer once."""
        latent_key, answer_key = split_key(key, 2)
        fixed = x + state.y

        def update(z: Array, update_key: Key | None) -> tuple[Array, None]:
            return self._apply_blocks(fixed + z, mask, update_key), None

        keys = _split_for_scan(latent_key, self.num_latent_updates)
        z, _ = jax.lax.scan(update, state.z, keys, length=self.num_latent_updates)
        return RecursionState(self._apply_blocks(state.y + z, mask, answer_key), z)

    def _apply_blocks(self, u: Array, mask: Array | None, key: Key | None) -> Array:
        added = None if self.positions is None else self.positions(u.shape[1])
        for block, block_key in zip(self.blocks, split_key(key, len(self.blocks)), strict=True):
            u = block(u if added is None else (u + added).astype(self.dtype), mask, block_key)
        return self.final_norm(u)


def _resolve_pool(task: TaskKind, pool: str) -> str | None:
    if task.documents > 1:
        raise ValueError(
            f"the task has {task.documents} documents per sample but the tiny recursive model takes one; "
            "use a SequenceModel for it"
        )
    if pool == "cls":
        raise ValueError("pool is 'cls' but the tiny recursive model has no such token; choose 'mean' or 'max'")
    return resolve_pool(task, pool)


def _without_gradient(tree: Any) -> Any:
    """Return a model or arrays as constants of differentiation, for which no residuals are stored."""
    return jax.tree.map(jax.lax.stop_gradient, tree)


def _split_for_scan(key: Key | None, number: int) -> Array | None:
    """Return `number` keys to scan over, or None, over which every step of a scan gets None."""
    return None if key is None else jax.random.split(key, number)
