"""The sequence model: embeddings, a stack of token-mixing blocks, pooling and a classifier."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from flare_jax.checks import check_dtype
from flare_jax.layers.dropout import Key, dropout, split_key
from flare_jax.layers.embeddings import LearnedPositions, SinusoidalPositions, TokenEmbedding
from flare_jax.layers.initializers import linear_kernel
from flare_jax.layers.norms import make_norm
from flare_jax.layers.rotary import ROPE_MODES
from flare_jax.models.sequence.backends import make_blocks
from flare_jax.models.sequence.head import ClassifierHead, pool_tokens
from flare_jax.models.sequence.tasks import POOLS, TaskKind, find_task, resolve_pool
from flare_jax.option_groups import blocks, rate, width
from flare_jax.options import MAX_POINTS, Config, option

POSITION_EMBEDDINGS = ("sin", "abs", "rope")


@dataclass(frozen=True, kw_only=True)
class EmbeddedSequenceConfig(Config):
    """Options of the models between token embeddings and a classifier; those of their blocks belong to the backend."""

    max_length: int = option(256, help="largest number of tokens of a document", minimum=1, maximum=MAX_POINTS)
    pool: str = option("mean", help="what becomes of the tokens, unless each has a label", choices=POOLS)
    masked_pool: bool = option(
        True,
        help="leave padding out of mean and max; False: pool it too",
        needs=("pool", ("mean", "max")),
    )
    pad_id: int | None = option(None, help="number of the padding token; None: there is none", minimum=0)
    zero_pad_embedding: bool = option(
        True, help="the padding token has a zero embedding; False: a random one, as originally"
    )
    emb_drop: float = rate("the embedding")
    cls_drop: float = rate("what the classifier reads")
    pos_embed: str = option("sin", help="position embeddings", choices=POSITION_EMBEDDINGS)
    rope_mode: str = option(
        "interleaved",
        help="'interleaved' turns pairs of entries; 'reference' is the original's, which is no rotation",
        choices=ROPE_MODES,
        needs=("pos_embed", "rope"),
    )
    channel_dim: int = width(128)


@dataclass(frozen=True, kw_only=True)
class SequenceConfig(EmbeddedSequenceConfig):
    """Options of the sequence model."""

    num_blocks: int = blocks(4)


class SequenceModel(nnx.Module):
    """Model from token numbers [B, N] to logits [B, num_labels], or [B, N, num_labels] for token-level tasks.

    `task` is a name of `TASKS` or a `TaskKind`. `backend` names the blocks (`BACKENDS`), whose options are `blocks`.
    Sequences have up to `max_length` tokens; for tasks with two documents per sample they have exactly twice that, one
    document after the other. `pool` is 'mean', 'max' or 'cls' (a learned first token) and does not matter for
    token-level tasks. `pos_embed` is 'sin' or 'abs' (learned), both added before every block, or 'rope', inside of the
    blocks in the mode `rope_mode`. The padding token `pad_id` never gets a gradient. Two-class tasks have `num_labels`
    1.
    """

    def __init__(
        self,
        task: str | TaskKind,
        vocab_size: int,
        num_labels: int,
        config: SequenceConfig,
        *,
        backend: str,
        blocks: Config,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        kind = find_task(task)
        channel_dim, max_length, rmsnorm = config.channel_dim, config.max_length, blocks.rmsnorm
        self.documents = kind.documents
        self.max_length = max_length
        self.pool = resolve_pool(kind, config.pool)
        self.masked_pool = config.masked_pool
        self.emb_drop = config.emb_drop
        self.dtype = check_dtype(dtype)
        num_extra_tokens = int(self.pool == "cls")
        self.token_embedding = TokenEmbedding(
            vocab_size, channel_dim, pad_id=config.pad_id, zero_padding=config.zero_pad_embedding, rngs=rngs
        )
        self.cls_token = nnx.Param(linear_kernel(rngs.params(), (channel_dim,))) if num_extra_tokens else None
        self.positions = make_positions(config.pos_embed, max_length + num_extra_tokens, channel_dim, rngs=rngs)
        self.blocks = make_blocks(
            backend,
            blocks,
            num_blocks=config.num_blocks,
            channel_dim=channel_dim,
            max_length=max_length,
            num_extra_tokens=num_extra_tokens,
            rope_mode=config.rope_mode if config.pos_embed == "rope" else None,
            dtype=dtype,
            rngs=rngs,
        )
        pooled = self.pool in ("mean", "max")
        self.final_norm = make_norm(channel_dim, rmsnorm=rmsnorm, dtype=dtype) if pooled else None
        self.head = ClassifierHead(
            kind.documents * channel_dim,
            num_labels,
            use_norm=pooled,
            mlp=kind.mlp_head,
            cls_drop=config.cls_drop,
            rmsnorm=rmsnorm,
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(
        self, input_ids: Int[Array, "B N"], mask: Bool[Array, "B N"] | None = None, key: Key | None = None
    ) -> Float[Array, "B C_out"] | Float[Array, "B N C_out"]:
        """Return the logits in float32. `mask` is True for real tokens, a random `key` switches dropout on.

        Raises ValueError for ids and masks of another shape or type, and where the backend takes no mask.
        """
        check_tokens(input_ids, mask)
        samples = len(input_ids)
        input_ids, mask = self._split_documents(input_ids, mask)
        embedding_key, head_key, *block_keys = split_key(key, 2 + len(self.blocks))
        x = dropout(self.token_embedding(input_ids), self.emb_drop, embedding_key).astype(self.dtype)
        x, mask = self._prepend_cls_token(x, mask)
        added = None if self.positions is None else self.positions(x.shape[1])
        for block, block_key in zip(self.blocks, block_keys, strict=True):
            # The positions are added before every block, not only before the first.
            x = block(x if added is None else (x + added).astype(self.dtype), mask, block_key)
        x = x if self.final_norm is None else self.final_norm(x)
        x = pool_tokens(x, self.pool, mask if self.masked_pool else None)
        if self.documents > 1:
            x = x.reshape(samples, -1)
        return self.head(x, head_key)

    def _split_documents(
        self, ids: Int[Array, "B N"], mask: Bool[Array, "B N"] | None
    ) -> tuple[Int[Array, "_ _"], Bool[Array, "_ _"] | None]:
        """Return every document of every sample as a row of its own."""
        if self.documents == 1:
            return ids, mask
        wanted = self.documents * self.max_length
        if ids.shape[1] != wanted:
            raise ValueError(
                f"input_ids has {ids.shape[1]} tokens but {self.documents} documents of max_length {self.max_length} "
                f"have {wanted}; pad every document to max_length"
            )
        return ids.reshape(-1, self.max_length), None if mask is None else mask.reshape(-1, self.max_length)

    def _prepend_cls_token(
        self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None
    ) -> tuple[Float[Array, "B _ C"], Bool[Array, "B _"] | None]:
        if self.cls_token is None:
            return x, mask
        token = jnp.broadcast_to(self.cls_token[...].astype(x.dtype), (len(x), 1, x.shape[-1]))
        if mask is not None:
            mask = jnp.pad(mask, ((0, 0), (1, 0)), constant_values=True)
        return jnp.concatenate((token, x), axis=1), mask


def make_positions(
    pos_embed: str, length: int, channel_dim: int, *, rngs: nnx.Rngs
) -> SinusoidalPositions | LearnedPositions | None:
    """Return what is added for the positions of up to `length` tokens: nothing for 'rope'."""
    if pos_embed == "rope":
        return None
    return SinusoidalPositions(channel_dim) if pos_embed == "sin" else LearnedPositions(length, channel_dim, rngs=rngs)


def check_tokens(input_ids: Array, mask: Array | None) -> None:
    """Raise unless `input_ids` are integers [B, N], one at least, and `mask`, if any, is a bool array [B, N]."""
    if 0 in input_ids.shape:
        raise ValueError(f"input_ids has shape {input_ids.shape}, so there is no token in it; pass at least one")
    if input_ids.ndim != 2 or not jnp.issubdtype(input_ids.dtype, jnp.integer):
        raise ValueError(
            f"input_ids has shape {input_ids.shape} and dtype {input_ids.dtype} but must be integers [B, N]; "
            "pass a batch of token numbers"
        )
    if mask is None:
        return
    if mask.shape != input_ids.shape or mask.dtype != jnp.bool_:
        raise ValueError(
            f"mask has shape {mask.shape} and dtype {mask.dtype} but must be bool {input_ids.shape} as input_ids, "
            "True for real tokens; compare the ids with the padding token first"
        )
