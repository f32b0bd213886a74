"""Linear attention with normalised queries and keys and the queries as residual (GNOT, arXiv 2302.14376)."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_choice, check_head_dim
from flare_jax.layers.dropout import Key, check_rate, dropout
from flare_jax.layers.linear import Linear
from flare_jax.mixers.heads import merge_heads, split_heads

NORMALIZATIONS = ("l1", "galerkin", "l2")


class NormalizedLinearAttention(nnx.Module):
    """`out_proj(q_i + q_iᵀ(Σ_n k_n v_nᵀ)/d_i)` per head, of cost O(N·D²), queries from one set of tokens to another.

    `attn_type` gives q, k and the divisor: 'l1' softmax over the head width and d_i = q_i·Σ_n k_n; 'galerkin' the same
    with d_i = N; 'l2' division by the 1-norm and d_i = |q_i·Σ_n k_n|. With a random key a share `drop_rate` of the
    mixed heads is dropped.
    """

    def __init__(
        self,
        channel_dim: int,
        *,
        num_heads: int,
        attn_type: str = "l1",
        drop_rate: float = 0.0,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_head_dim(channel_dim, num_heads)
        check_choice("attn_type", attn_type, NORMALIZATIONS)
        self.num_heads = num_heads
        self.attn_type = attn_type
        self.drop_rate = check_rate("drop_rate", drop_rate)
        self.q_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)
        self.k_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)
        self.v_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)
        self.out_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        queries: Float[Array, "B M C"],
        tokens: Float[Array, "B N C"],
        mask: Bool[Array, "B N"] | None = None,
        key: Key | None = None,
    ) -> Float[Array, "B M C"]:
        """Return what every query gathers from the real tokens of its sample."""
        q = self._normalize(split_heads(self.q_proj(queries), self.num_heads))
        k = self._normalize(split_heads(self.k_proj(tokens), self.num_heads))
        v = split_heads(self.v_proj(tokens), self.num_heads)
        if mask is not None:
            k, v = (jnp.where(mask[..., None, None], part, 0) for part in (k, v))
        # Sums over all tokens stay in float32, as do the normalised queries and keys.
        context = jnp.einsum("bnhd,bnhe->bhde", k, v.astype(jnp.float32))
        gathered = jnp.einsum("bmhd,bhde->bmhe", q, context)
        y = merge_heads(q + gathered / self._divisor(q, k, mask))
        return self.out_proj(dropout(y, self.drop_rate, key))

    def _normalize(self, x: Float[Array, "B N H D"]) -> Float[Array, "B N H D"]:
        """Return queries or keys in float32, normalised over the head width."""
        x = x.astype(jnp.float32)
        if self.attn_type == "l2":
            return x / jnp.abs(x).sum(-1, keepdims=True)
        return jax.nn.softmax(x, axis=-1)

    def _divisor(
        self, q: Float[Array, "B M H D"], k: Float[Array, "B N H D"], mask: Bool[Array, "B N"] | None
    ) -> Float[Array, "B M H 1"] | Float[Array, "B 1 1 1"]:
        if self.attn_type == "galerkin":
            counts = jnp.full(len(k), k.shape[1]) if mask is None else jnp.maximum(mask.sum(-1), 1)
            return counts.astype(jnp.float32)[:, None, None, None]
        divisor = jnp.einsum("bmhd,bhd->bmh", q, k.sum(1))[..., None]
        divisor = jnp.abs(divisor) if self.attn_type == "l2" else divisor
        # A sample without a real token has nothing to divide.
        return divisor if mask is None else jnp.where(mask.any(-1)[:, None, None, None], divisor, 1)
