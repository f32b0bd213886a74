"""Rotary position embedding of queries and keys (RoFormer, arXiv 2104.09864), and the variant of the original."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from flare_jax.checks import check_choice, check_integer

ROPE_MODES = ("reference", "interleaved")


@dataclass(frozen=True)
class RotaryEmbedding:
    """Multiplies queries and keys of up to `max_length` tokens by position-dependent factors; it has no parameters.

    Entry i of a head of width D turns by the angle `n · 10000^(−⌊i/2⌋/(D/2))` at position n. In mode 'interleaved'
    entries 2j and 2j + 1 form a pair, which makes this the rotation of RoFormer: norms are kept and dot products
    depend on relative positions only. Mode 'reference' pairs the same angles with the companion entries of the
    split-half layout, which is no rotation for D > 2; the original and its checkpoints use it.
    """

    max_length: int
    mode: str = "interleaved"

    def __post_init__(self):
        check_integer("max_length", self.max_length)
        check_choice("rope_mode", self.mode, ROPE_MODES)

    def __call__(self, x: Float[Array, "B N H D"]) -> Float[Array, "B N H D"]:
        """Return x with positions; raise ValueError if D is odd or N above `max_length`."""
        length, width = x.shape[1], x.shape[3]
        check_even_heads(width)
        if length > self.max_length:
            raise ValueError(
                f"the sequence has {length} tokens but the rotary embedding was built for {self.max_length}; "
                "shorten it or build the model with a larger max_length"
            )
        cosine, sine = (jnp.asarray(table)[:, None, :] for table in _tables(length, width))
        odd, even = x[..., 1::2], x[..., 0::2]
        if self.mode == "reference":
            companion = jnp.concatenate((-odd, even), axis=-1)
        else:
            companion = jnp.stack((-odd, even), axis=-1).reshape(x.shape)
        return (x * cosine + companion * sine).astype(x.dtype)


def rotate_halves(
    x: Float[Array, "B N H D"], positions: Int[Array, "B N"], base: float = 10_000.0
) -> Float[Array, "B N H D"]:
    """Return x turned by its positions: entry i < D/2 forms a pair with entry i + D/2, of angle n·base^(−2i/D).

    The layout of language models; any positions, computed in float32. D has to be even.
    """
    width = x.shape[-1]
    frequencies = jnp.asarray(base ** (-np.arange(0, width, 2) / width), jnp.float32)
    angles = positions[:, :, None, None].astype(jnp.float32) * frequencies
    cosine, sine = jnp.cos(angles), jnp.sin(angles)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate((first * cosine - second * sine, second * cosine + first * sine), axis=-1)
    return turned.astype(x.dtype)


def check_even_heads(head_dim: int) -> None:
    """Raise unless heads have an even width, as pairs of entries turn together."""
    if head_dim % 2:
        raise ValueError(
            f"the head width is {head_dim} but rotary embeddings need an even one; change num_heads or channel_dim"
        )


def _tables(length: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return cos and sin [N, D] of the angles, computed in float64 because angles grow up to N."""
    frequencies = 10000.0 ** (-np.arange(width // 2) / (width // 2))
    angles = np.repeat(np.arange(length)[:, None] * frequencies, 2, axis=1)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
