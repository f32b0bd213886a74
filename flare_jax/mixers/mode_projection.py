"""Physics cross-attention: points to modes and back by two softmaxes of one score matrix (LNO, arXiv 2406.03923)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def points_to_modes(
    scores: Float[Array, "B N M"], values: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None
) -> Float[Array, "B M C"]:
    """Return `softmax_N(scores)ᵀ values` over the points that `mask` marks as real; zeros for a sample without any.

    Scores and values at masked points have no influence.
    """
    logits = scores.astype(jnp.float32)
    if mask is not None:
        logits = jnp.where(mask[..., None], logits, -jnp.inf)
        values = jnp.where(mask[..., None], values, 0)
    peak = jax.lax.stop_gradient(logits.max(1, keepdims=True))
    weights = jnp.exp(logits - jnp.where(jnp.isfinite(peak), peak, 0))
    total = weights.sum(1)[..., None]
    gathered = jnp.einsum("bnm,bnc->bmc", weights.astype(values.dtype), values, preferred_element_type=jnp.float32)
    return (gathered / jnp.where(total == 0, 1, total)).astype(values.dtype)


def modes_to_points(scores: Float[Array, "B N M"], modes: Float[Array, "B M C"]) -> Float[Array, "B N C"]:
    """Return `softmax_M(scores) modes`."""
    weights = jax.nn.softmax(scores.astype(jnp.float32), axis=-1).astype(modes.dtype)
    return jnp.einsum("bnm,bmc->bnc", weights, modes, preferred_element_type=jnp.float32).astype(modes.dtype)
