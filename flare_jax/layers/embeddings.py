"""Embeddings of tokens and of their positions, for the sequence models."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from flare_jax.checks import check_integer
from flare_jax.layers.initializers import linear_kernel


class TokenEmbedding(nnx.Module):
    """Table [vocab_size, C], or [vocab_size + 1, C] with a padding token `pad_id`, ~ Normal(0, 0.02²).

    The row of the padding token never gets a gradient and counts as zero; without `zero_padding` it is random and
    looked up like all others, as in the original. Token numbers must be below the number of rows; they are not checked.
    """

    def __init__(
        self,
        vocab_size: int,
        channel_dim: int,
        *,
        pad_id: int | None = None,
        zero_padding: bool = True,
        rngs: nnx.Rngs,
    ):
        rows = check_integer("vocab_size", vocab_size) + (pad_id is not None)
        check_integer("channel_dim", channel_dim)
        if pad_id is not None and check_integer("pad_id", pad_id, minimum=0) > vocab_size:
            raise ValueError(
                f"pad_id is {pad_id} but the last row of the embedding is {vocab_size}; set it to vocab_size or below"
            )
        self.pad_id = pad_id
        self.zero_padding = zero_padding
        self.embedding = nnx.Param(linear_kernel(rngs.params(), (rows, channel_dim)))

    def __call__(self, ids: Int[Array, "B N"]) -> Float[Array, "B N C"]:
        """Return the rows of the tokens, in float32."""
        table = self.embedding[...]
        if self.pad_id is not None:
            row = jnp.zeros_like(table[0]) if self.zero_padding else jax.lax.stop_gradient(table[self.pad_id])
            table = table.at[self.pad_id].set(row)
        return table[ids]


class SinusoidalPositions(nnx.Module):
    """`pos_scale` times the fixed table of Vaswani et al. (arXiv 1706.03762), sines and cosines interleaved.

    The learned scalar `pos_scale` starts at 1/√C. There is no limit on the length.
    """

    def __init__(self, channel_dim: int):
        if check_integer("channel_dim", channel_dim) % 2:
            raise ValueError(
                f"channel_dim is {channel_dim} but sinusoidal positions need an even width; "
                "choose an even channel_dim or pos_embed 'abs'"
            )
        self.channel_dim = channel_dim
        self.pos_scale = nnx.Param(jnp.asarray(channel_dim**-0.5, jnp.float32))

    def __call__(self, length: int) -> Float[Array, "N C"]:
        """Return the embedding of the positions 0 to `length − 1`, in float32."""
        return self.pos_scale[...] * jnp.asarray(sinusoidal_table(length, self.channel_dim))


class LearnedPositions(nnx.Module):
    """Table [max_length, C] ~ Normal(0, 0.02²), one row per position."""

    def __init__(self, max_length: int, channel_dim: int, *, rngs: nnx.Rngs):
        shape = (check_integer("max_length", max_length), check_integer("channel_dim", channel_dim))
        self.embedding = nnx.Param(linear_kernel(rngs.params(), shape))

    def __call__(self, length: int) -> Float[Array, "N C"]:
        """Return the rows of the positions 0 to `length − 1`; raise ValueError if there are fewer."""
        table = self.embedding[...]
        if length > len(table):
            raise ValueError(
                f"the sequence has {length} tokens but there are positions for {len(table)}; "
                "shorten it or build the model with a larger max_length"
            )
        return table[:length]


def sinusoidal_table(length: int, channel_dim: int) -> np.ndarray:
    """Return float32 [N, C]: sin(n·w_i) in column 2i and cos(n·w_i) in column 2i + 1, with w_i = 10000^(−2i/C)."""
    angles = np.arange(length)[:, None] * 10000.0 ** (-np.arange(0, channel_dim, 2) / channel_dim)
    return np.stack((np.sin(angles), np.cos(angles)), axis=-1).reshape(length, channel_dim).astype(np.float32)
