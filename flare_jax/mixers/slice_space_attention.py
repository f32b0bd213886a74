"""Transolver-3: slice attention whose projections act on the slices instead of on the points."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_head_dim
from flare_jax.layers.dropout import Key
from flare_jax.layers.initializers import filled
from flare_jax.layers.linear import Linear
from flare_jax.mixers.slice_attention import INITIAL_TEMPERATURE, slice_projection
from flare_jax.mixers.slice_tokens import WEIGHT_EPSILON, SliceTokenAttention, slice_weights
from kernels import times_matrix


class SliceSpaceAttention(nnx.Module):
    """Token mixer of cost O(N·M): Transolver without projections of the N points, which it never stores.

    The columns of `in_proj` are the value map, then the slice map. Slice weights are softmax_M of the slice
    projection of the slice map over one temperature per head, which is not bounded; slices average the points
    themselves, and value map and `out_proj` are applied to the averages. Up to rounding, and to where the mean's 1e-5
    stands, this is Transolver's attention.
    """

    def __init__(
        self, channel_dim: int, *, num_heads: int, num_slices: int, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ):
        self.num_heads, self.head_dim = num_heads, check_head_dim(channel_dim, num_heads)
        self.in_proj = Linear(channel_dim, 2 * channel_dim, dtype=dtype, rngs=rngs)
        self.slice_proj = slice_projection(self.head_dim, num_slices, orthogonal=False, dtype=dtype, rngs=rngs)
        self.temperature = nnx.Param(filled((1, num_heads, 1, 1), INITIAL_TEMPERATURE))
        self.token_mixer = SliceTokenAttention(channel_dim, num_heads=num_heads, dtype=dtype, rngs=rngs)
        self.out_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None, key: Key | None = None
    ) -> Float[Array, "B N C"]:
        """Mix the real points of each sample, which must be finite also in the padding; `key` has no use."""
        weights = self._weights(x, mask)
        total = weights.sum(1)[..., None]
        # Heads and slices are one axis [B, N, H·M], so that every product is a plain one of matrices.
        flat = weights.reshape(*x.shape[:2], -1).astype(x.dtype)
        sums = jnp.einsum("bnk,bnc->bkc", flat, x, preferred_element_type=jnp.float32)
        means = (sums.reshape(*total.shape[:3], -1) / (total + WEIGHT_EPSILON)).astype(x.dtype)
        values = self._per_head(self.in_proj.kernel[...][:, : x.shape[-1]], x.dtype)
        bias = self.in_proj.bias[...][: x.shape[-1]].reshape(self.num_heads, self.head_dim).astype(x.dtype)
        tokens = jnp.einsum("bhmc,chd->bmhd", means, values) + bias
        mixed = self.token_mixer(tokens.reshape(*tokens.shape[:2], -1)).reshape(tokens.shape)
        out = self.out_proj.kernel[...].reshape(self.num_heads, self.head_dim, -1).astype(x.dtype)
        read = jnp.einsum("bmhd,hdc->bhmc", mixed, out).reshape(x.shape[0], -1, x.shape[-1])
        y = jnp.einsum("bnk,bkc->bnc", flat, read, preferred_element_type=jnp.float32)
        return (y + self.out_proj.bias[...]).astype(x.dtype)

    def _weights(self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None) -> Float[Array, "B N H M"]:
        """Return the slice weights; slice map and slice projection are one product [C, M] per head."""
        c = x.shape[-1]
        select = self.slice_proj.kernel[...]
        maps = jnp.einsum("chd,dm->chm", self._per_head(self.in_proj.kernel[...][:, c:], jnp.float32), select)
        shift = self.in_proj.bias[...][c:].reshape(self.num_heads, self.head_dim) @ select + self.slice_proj.bias[...]
        products = times_matrix(x, maps.reshape(c, -1).astype(x.dtype), dtype=jnp.float32)
        products = products.reshape(*x.shape[:2], *shift.shape)
        return slice_weights((products + shift) / self.temperature[...].reshape(-1, 1), mask)

    def _per_head(self, kernel: Float[Array, "C _"], dtype: DTypeLike) -> Float[Array, "C H D"]:
        return kernel.reshape(kernel.shape[0], self.num_heads, self.head_dim).astype(dtype)
