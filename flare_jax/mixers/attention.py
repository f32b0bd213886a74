"""Plain softmax attention with float32 softmax; the weights [B, H, M, N] are stored in full."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from flare_jax.layers.dropout import Key, dropout


def softmax_attention(
    q: Float[Array, "B M H D"],
    k: Float[Array, "B N H D"],
    v: Float[Array, "B N H D"],
    *,
    scale: float,
    mask: Bool[Array, "B N"] | None = None,
    drop_rate: float = 0.0,
    key: Key | None = None,
) -> Float[Array, "B M H D"]:
    """Return `softmax_N(scale · q kᵀ) v` per head, over the keys that `mask` marks as real.

    A sample without a real key gives zeros. Values at masked keys, NaN included, affect neither result nor gradients.
    With a random `key` a share `drop_rate` of the softmax weights is dropped.
    """
    if mask is not None:
        real = mask[:, :, None, None]
        k, v = jnp.where(real, k, 0), jnp.where(real, v, 0)
    logits = scale * jnp.einsum("bmhd,bnhd->bhmn", q, k, preferred_element_type=jnp.float32)
    if mask is not None:
        logits = jnp.where(mask[:, None, None, :], logits, -jnp.inf)
    peak = jax.lax.stop_gradient(logits.max(-1, keepdims=True))
    weights = jnp.exp(logits - jnp.where(jnp.isfinite(peak), peak, 0))
    total = weights.sum(-1, keepdims=True)
    weights = dropout(weights / jnp.where(total == 0, 1, total), drop_rate, key).astype(v.dtype)
    return jnp.einsum("bhmn,bnhd->bmhd", weights, v, preferred_element_type=jnp.float32).astype(v.dtype)
