"""Slice tokens: soft assignment of points to M slices, weighted means per slice, and attention among the slices."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_head_dim
from flare_jax.layers.linear import Linear
from flare_jax.mixers.attention import softmax_attention
from kernels import times_matrix

# Keeps the mean of a slice without points finite.
WEIGHT_EPSILON = 1e-5


def slice_logits(points: Float[Array, "B N H D"], projection: Linear) -> Float[Array, "B N H M"]:
    """Return `points @ kernel + bias` in float32, with products in the compute dtype."""
    kernel = projection.kernel[...].astype(points.dtype)
    return times_matrix(points, kernel, dtype=jnp.float32) + projection.bias[...]


def slice_weights(logits: Float[Array, "B N H M"], mask: Bool[Array, "B N"] | None) -> Float[Array, "B N H M"]:
    """Return the float32 softmax over the slices; a padded point (`mask` False) belongs to no slice."""
    weights = jax.nn.softmax(logits, axis=-1)
    return weights if mask is None else jnp.where(mask[:, :, None, None], weights, 0)


def gather_slices(weights: Float[Array, "B N H M"], values: Float[Array, "B N H D"]) -> Float[Array, "B M H D"]:
    """Return the mean of the values per slice, `Σ_n a_nm v_n / (Σ_n a_nm + 1e-5)`, in the dtype of the values.

    Both sums run over all points, so that points spread over devices are summed before the division.
    """
    total = weights.sum(1).swapaxes(1, 2)[..., None]
    sums = jnp.einsum("bnhm,bnhd->bmhd", weights.astype(values.dtype), values, preferred_element_type=jnp.float32)
    return (sums / (total + WEIGHT_EPSILON)).astype(values.dtype)


def scatter_slices(weights: Float[Array, "B N H M"], tokens: Float[Array, "B M H D"]) -> Float[Array, "B N H D"]:
    """Return `Σ_m a_nm t_m`, the mean of the tokens of the slices that a point belongs to."""
    y = jnp.einsum("bnhm,bmhd->bnhd", weights.astype(tokens.dtype), tokens, preferred_element_type=jnp.float32)
    return y.astype(tokens.dtype)


class SliceTokenAttention(nnx.Module):
    """Softmax attention among slice tokens, scale 1/√D; the three projections [D, D] have no bias and serve all heads.

    Source: Transolver, arXiv 2402.02366.
    """

    def __init__(self, channel_dim: int, *, num_heads: int, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.head_dim = check_head_dim(channel_dim, num_heads)
        self.q_proj = Linear(self.head_dim, self.head_dim, use_bias=False, dtype=dtype, rngs=rngs)
        self.k_proj = Linear(self.head_dim, self.head_dim, use_bias=False, dtype=dtype, rngs=rngs)
        self.v_proj = Linear(self.head_dim, self.head_dim, use_bias=False, dtype=dtype, rngs=rngs)

    def __call__(self, tokens: Float[Array, "B M C"]) -> Float[Array, "B M C"]:
        """Mix the tokens of each sample."""
        heads = tokens.reshape(*tokens.shape[:2], -1, self.head_dim)
        y = softmax_attention(self.q_proj(heads), self.k_proj(heads), self.v_proj(heads), scale=self.head_dim**-0.5)
        return y.reshape(tokens.shape)
