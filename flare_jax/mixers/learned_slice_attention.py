"""Slice attention with learned slice queries, the two precursors of FLARE: TS1 and TS3."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_dtype, check_head_dim
from flare_jax.layers.dropout import Key, dropout
from flare_jax.layers.initializers import LINEAR_STD, latents, normal, ones, uniform
from flare_jax.layers.linear import Linear
from flare_jax.layers.norms import LayerNorm
from flare_jax.layers.structured_grid import check_no_mask
from flare_jax.mixers.attention import softmax_attention
from flare_jax.mixers.self_attention import SelfAttention, SelfAttentionConfig
from flare_jax.mixers.slice_attention import GridConfig, point_projection
from flare_jax.mixers.slice_tokens import gather_slices, scatter_slices, slice_weights
from flare_jax.option_groups import heads, rate
from flare_jax.options import MAX_LATENTS, Config, option
from flare_jax.params import Matrix

NORM_EPSILON = 1e-12


class SliceStatistics(NamedTuple):
    """How a block of TS1 slices its points: what points give to slices, and slices to each other."""

    slice_weights: Float[Array, "B H M N"]
    temperature: Float[Array, ""]
    slice_bias: Float[Array, "H M"]
    attention_weights: Float[Array, "B H M M"]


@dataclass(frozen=True, kw_only=True)
class LearnedSliceConfig(Config):
    """Options of slice attention with learned slice queries."""

    num_heads: int = heads(8)
    num_slices: int = option(32, help="slices of each head", minimum=1, maximum=MAX_LATENTS)
    qk_norm: bool = option(False, help="make slice queries and point keys unit vectors")


@dataclass(frozen=True, kw_only=True)
class DroppedSliceConfig(LearnedSliceConfig):
    """Options of the slice attention of TS1."""

    dropout: float = rate("the output of each mixer")


@dataclass(frozen=True, kw_only=True)
class MixedSliceConfig(LearnedSliceConfig, GridConfig):
    """Options of the slice attention of TS3, on any points or a structured grid."""


class LearnedSliceAttention(nnx.Module):
    """TS1: slice weights `softmax_M(q k)` of learned slice queries q [H, M, D], then attention among the slices.

    Keys and values of the points come from `kv_proj`, and queries, keys and values of the slice tokens from
    `qkv_proj` [H, D, 3D]. `qk_norm` makes slice queries and point keys unit vectors.
    """

    def __init__(
        self,
        channel_dim: int,
        config: DroppedSliceConfig,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        num_heads = config.num_heads
        self.head_dim = check_head_dim(channel_dim, num_heads)
        self.qk_norm = config.qk_norm
        self.drop_rate = config.dropout
        self.dtype = check_dtype(dtype)
        slices = (num_heads, config.num_slices, self.head_dim)
        initialize = normal(LINEAR_STD)
        self.slice_q = nnx.Param(initialize(rngs.params(), slices))
        self.qkv_proj = nnx.Param(initialize(rngs.params(), (num_heads, self.head_dim, 3 * self.head_dim)))
        self.kv_proj = Linear(channel_dim, 2 * channel_dim, dtype=dtype, rngs=rngs)
        self.out_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None, key: Key | None = None
    ) -> Float[Array, "B N C"]:
        """Mix the real points of each sample, which must be finite also in the padding; `key` is for dropout."""
        weights, tokens = self._slice(x, mask)
        q, k, v = self._project_tokens(tokens)
        mixed = softmax_attention(q, k, v, scale=self.head_dim**-0.5)
        y = scatter_slices(weights, mixed).reshape(x.shape)
        return dropout(self.out_proj(y), self.drop_rate, key)

    def statistics(self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None) -> SliceStatistics:
        """Return the slice weights and the attention weights among the slices, beside the constants of the original."""
        weights, tokens = self._slice(x, mask)
        q, k, _ = self._project_tokens(tokens)
        logits = jnp.einsum("bmhd,bkhd->bhmk", q, k, preferred_element_type=jnp.float32) * self.head_dim**-0.5
        return SliceStatistics(
            slice_weights=weights.transpose(0, 2, 3, 1),
            temperature=jnp.ones(()),
            slice_bias=jnp.zeros(self.slice_q.shape[:2]),
            attention_weights=jax.nn.softmax(logits, axis=-1),
        )

    def _slice(
        self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None
    ) -> tuple[Float[Array, "B N H M"], Float[Array, "B M H D"]]:
        """Return the slice weights of the points and the slice tokens."""
        q = self.slice_q[...]
        k, v = split_keys_values(self.kv_proj(x), len(q))
        if self.qk_norm:
            q, k = unit_vectors(q), unit_vectors(k)
        logits = jnp.einsum("bnhd,hmd->bnhm", k, q.astype(k.dtype), preferred_element_type=jnp.float32)
        weights = slice_weights(logits, mask)
        return weights, gather_slices(weights, v)

    def _project_tokens(self, tokens: Float[Array, "B M H D"]) -> list[Float[Array, "B M H D"]]:
        kernel = self.qkv_proj[...].astype(tokens.dtype)
        return jnp.split(jnp.einsum("bmhd,hde->bmhe", tokens, kernel), 3, axis=-1)


class MixedSliceAttention(nnx.Module):
    """TS3: slice scores mixed across heads and slices, and a transformer layer among slice tokens of all heads.

    The scores are `mix [H·M, H·M] @ (q k)` with learned slice queries q [H, M, D]. Weights are their softmax over the
    slices; with `qk_norm` queries and keys are unit vectors, and the weights are the scores times M / (number of real
    points), without softmax. With a `grid_shape` keys and values come from a convolution on the grid.
    """

    def __init__(
        self,
        channel_dim: int,
        config: MixedSliceConfig,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        num_heads, num_slices, grid_shape = config.num_heads, config.num_slices, config.grid_shape
        self.head_dim = check_head_dim(channel_dim, num_heads)
        self.num_slices = num_slices
        self.qk_norm = config.qk_norm
        self.on_grid = grid_shape is not None
        rows = num_heads * num_slices
        self.slice_q = nnx.Param(latents(rngs.params(), (num_heads, num_slices, self.head_dim)))
        self.mix = Matrix(uniform(rows**-0.5)(rngs.params(), (rows, rows)))
        self.kv_proj = point_projection(channel_dim, 2 * channel_dim, grid_shape=grid_shape, dtype=dtype, rngs=rngs)
        self.norm1 = LayerNorm(channel_dim, dtype=dtype)
        self.token_gain = nnx.Param(ones(channel_dim))
        self.token_att = SelfAttention(channel_dim, SelfAttentionConfig(num_heads=num_heads), dtype=dtype, rngs=rngs)
        self.norm2 = LayerNorm(channel_dim, dtype=dtype)
        self.out_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None, key: Key | None = None
    ) -> Float[Array, "B N C"]:
        """Mix the real points of each sample, which must be finite also in the padding; nothing here is random."""
        if self.on_grid:
            check_no_mask(mask)
        k, v = split_keys_values(self.kv_proj(x), self.slice_q.shape[0])
        weights, tokens = self._slice(k, v, mask)
        mixed = self._mix_tokens(tokens.reshape(*tokens.shape[:2], -1)).reshape(tokens.shape)
        return self.out_proj(scatter_slices(weights, mixed).reshape(x.shape))

    def _slice(
        self, k: Float[Array, "B N H D"], v: Float[Array, "B N H D"], mask: Bool[Array, "B N"] | None
    ) -> tuple[Float[Array, "B N H M"], Float[Array, "B M H D"]]:
        """Return the slice weights of the points and the slice tokens."""
        q = self.slice_q[...]
        if self.qk_norm:
            q, k = unit_vectors(q), unit_vectors(k)
        # mix @ (q k) = (mix @ q) k: mixing the queries avoids a product of [H·M, H·M] with the scores of every point.
        mix = self.mix[...].reshape(*q.shape[:2], *q.shape[:2])
        queries = jnp.einsum("hmij,ijd->hmid", mix, q).astype(k.dtype)
        scores = jnp.einsum("bnid,hmid->bnhm", k, queries, preferred_element_type=jnp.float32)
        if not self.qk_norm:
            weights = slice_weights(scores, mask)
            return weights, gather_slices(weights, v)
        if mask is None:
            weights = scores * (self.num_slices / k.shape[1])
        else:
            real = jnp.maximum(mask.sum(1), 1)[:, None, None, None]
            weights = jnp.where(mask[:, :, None, None], scores * self.num_slices / real, 0)
        tokens = jnp.einsum("bnhm,bnhd->bmhd", weights.astype(v.dtype), v, preferred_element_type=jnp.float32)
        return weights, tokens.astype(v.dtype)

    def _mix_tokens(self, tokens: Float[Array, "B M C"]) -> Float[Array, "B M C"]:
        tokens = self.norm1(tokens)
        tokens = self.token_gain[...].astype(tokens.dtype) * tokens + self.token_att(tokens)
        return self.norm2(tokens)


def split_keys_values(
    projected: Float[Array, "B N _"], num_heads: int
) -> tuple[Float[Array, "B N H D"], Float[Array, "B N H D"]]:
    """Return the keys and values of projections [B, N, 2·C]: keys first, heads inside."""
    pair = projected.reshape(*projected.shape[:2], 2, num_heads, -1)
    return pair[:, :, 0], pair[:, :, 1]


def unit_vectors(x: Float[Array, "... D"]) -> Float[Array, "... D"]:
    """Return `x / max(‖x‖₂, 1e-12)` over the last axis, in the dtype of x."""
    squares = jnp.square(x.astype(jnp.float32)).sum(-1, keepdims=True)
    # The floor is inside of the root, whose derivative at zero is infinite.
    return (x * jax.lax.rsqrt(jnp.maximum(squares, NORM_EPSILON**2))).astype(x.dtype)
