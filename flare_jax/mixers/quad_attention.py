"""Quad attention: tokens read a fourth-order state of the sequence."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.layers.dropout import Key
from flare_jax.mixers.chunks import map_over_chunks, sum_over_chunks
from flare_jax.mixers.state_attention import StateAttention, StateBlock, StateBlockConfig

# Elements of [B, N, H, D, D] that are held at once.
CHUNK_ELEMENTS = 2**22


class QuadAttention(StateAttention):
    """Token mixer of cost O(N·D³) per channel with a state [D, D, D, D] per head (see `quad_attention`).

    N counts the padding; the norm after it removes this factor up to its epsilon.
    """

    def __init__(self, channel_dim: int, config: StateBlockConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        super().__init__(channel_dim, config, dtype=dtype, rngs=rngs)
        self.q1_proj = self.make_projection(rngs)
        self.q2_proj = self.make_projection(rngs)
        self.q3_proj = self.make_projection(rngs)
        self.k1_proj = self.make_projection(rngs)
        self.k2_proj = self.make_projection(rngs)
        self.k3_proj = self.make_projection(rngs)
        self.v_proj = self.make_projection(rngs)

    def __call__(
        self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None, key: Key | None = None
    ) -> Float[Array, "B N C"]:
        """Mix the real tokens; a padded one receives the output projection of the norm's bias."""
        queries, keys, (v,) = self.project(
            x,
            mask,
            queries=[self.q1_proj, self.q2_proj, self.q3_proj],
            keys=[self.k1_proj, self.k2_proj, self.k3_proj],
            values=[self.v_proj],
        )
        return self.output(quad_attention(*queries, *keys, v), key)


class QuadBlock(StateBlock):
    """Pre-norm block of quad attention and a residual MLP."""

    mixer = QuadAttention


def quad_attention(
    q1: Float[Array, "B N H D"],
    q2: Float[Array, "B N H D"],
    q3: Float[Array, "B N H D"],
    k1: Float[Array, "B N H D"],
    k2: Float[Array, "B N H D"],
    k3: Float[Array, "B N H D"],
    v: Float[Array, "B N H C"],
) -> Float[Array, "B N H C"]:
    """Return `y_nj = Σ_ikl q1_ni T_ijkl q2_nk q3_nl` with `T_ijkl = 1/N Σ_n k1_ni v_nj k2_nk k3_nl`, in float32.

    Pairs of factors of a chunk of tokens are multiplied out, never more: memory O(N D + D³ C) for both directions.
    """
    batch, points, heads, width = k1.shape
    chunks = -(-batch * points * heads * width * max(width, v.shape[-1]) // CHUNK_ELEMENTS)
    state = sum_over_chunks(_accumulate, (k1, k2, k3, v), chunks) / points
    return map_over_chunks(lambda *queries: _read(*queries, state), (q1, q2, q3), chunks)


def _accumulate(k1: Array, k2: Array, k3: Array, v: Array) -> Array:
    """Return the sum over the tokens of a chunk, with the axes i, k, j, l of the state."""
    k1, k2, k3, v = (x.astype(jnp.float32) for x in (k1, k2, k3, v))
    return jnp.einsum("bnhik,bnhjl->bhikjl", k1[..., :, None] * k2[..., None, :], v[..., :, None] * k3[..., None, :])


def _read(q1: Array, q2: Array, q3: Array, state: Array) -> Array:
    q1, q2, q3 = (x.astype(jnp.float32) for x in (q1, q2, q3))
    products = jnp.einsum("bnhik,bhikjl->bnhjl", q1[..., :, None] * q2[..., None, :], state)
    return jnp.einsum("bnhjl,bnhl->bnhj", products, q3)
