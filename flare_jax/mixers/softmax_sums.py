"""Attention over points that come in pieces: what a piece leaves behind, and how pieces are put together, exactly.

Products are full float32 whatever the default precision, so that the pieces do not show in the result.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class SoftmaxSums(NamedTuple):
    """Sums over points of e = exp(logit − maximum), and of e times the value; float32."""

    maximum: Float[Array, "B H M"]
    mass: Float[Array, "B H M"]
    total: Float[Array, "B H M D"]

    @property
    def mean(self) -> Float[Array, "B H M D"]:
        """The softmax-weighted mean of the values, 0 without any point."""
        return self.total / jnp.where(self.mass > 0, self.mass, 1.0)[..., None]


def no_sums(shape: tuple[int, int, int], width: int) -> SoftmaxSums:
    """Return the sums over no point for shape [B, H, M] and values of this width."""
    zero = jnp.zeros(shape, jnp.float32)
    return SoftmaxSums(zero - jnp.inf, zero, jnp.zeros((*shape, width), jnp.float32))


def sum_points(
    q: Float[Array, "B H M D"],
    k: Float[Array, "B N H D"],
    v: Float[Array, "B N H D"],
    mask: Bool[Array, "B N"],
    *,
    scale: float,
) -> SoftmaxSums:
    """Return the sums over the real points of one piece for the logits `scale · q kᵀ`."""
    real = mask[:, :, None, None]
    k, v = (jnp.where(real, x, 0).astype(jnp.float32) for x in (k, v))
    logits = scale * jnp.einsum("bhmd,bnhd->bhmn", q.astype(jnp.float32), k, precision="highest")
    logits = jnp.where(mask[:, None, None, :], logits, -jnp.inf)
    maximum = logits.max(-1)
    weights = jnp.exp(logits - finite_or_zero(maximum)[..., None])
    return SoftmaxSums(maximum, weights.sum(-1), jnp.einsum("bhmn,bnhd->bhmd", weights, v, precision="highest"))


def merge_sums(a: SoftmaxSums, b: SoftmaxSums) -> SoftmaxSums:
    """Return the sums over the points of both."""
    maximum = jnp.maximum(a.maximum, b.maximum)
    # Of an empty part the maximum is −∞ and so is its factor's exponent, also if both are empty.
    factors = [jnp.exp(part.maximum - finite_or_zero(maximum)) for part in (a, b)]
    mass = sum(factor * part.mass for factor, part in zip(factors, (a, b), strict=True))
    total = sum(factor[..., None] * part.total for factor, part in zip(factors, (a, b), strict=True))
    return SoftmaxSums(maximum, mass, total)


def read_sums(
    k: Float[Array, "B N H D"], q: Float[Array, "B H M D"], z: Float[Array, "B H M D"], *, scale: float
) -> Float[Array, "B N H D"]:
    """Return `softmax_M(scale · k qᵀ) z`, what points of keys k read from the latents, in the dtype of k."""
    operands = (k.astype(jnp.float32), q.astype(jnp.float32))
    logits = scale * jnp.einsum("bnhd,bhmd->bhnm", *operands, precision="highest")
    weights = jax.nn.softmax(logits, axis=-1)
    return jnp.einsum("bhnm,bhmd->bnhd", weights, z, precision="highest").astype(k.dtype)


def finite_or_zero(maximum: Array) -> Array:
    """Return the maxima of logits, 0 for those of nothing, so that they can be subtracted."""
    return jnp.where(jnp.isfinite(maximum), maximum, 0)
