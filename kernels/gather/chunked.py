"""The gather in chunks of points: memory O(N) on any device, gradients by recomputation (README.md)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from kernels._chunked import LOWEST, Pairs, fold_chunks, hide_masked
from kernels._statistics import Statistics
from kernels._target import Target
from kernels.gather.backend import Backend
from kernels.gather.operands import Operands


def gather_chunks(operands: Operands, scale: float, pairs: Pairs) -> Statistics:
    """Return the latents and the statistics of their softmax over the points, by an online softmax over chunks."""
    q, k, v, mask = operands.q, operands.k, operands.values, operands.mask
    batch, _, heads, channels = v.shape
    shape = (batch, heads, q.shape[-2])

    def body(carry: tuple, chunk: tuple) -> tuple[tuple, None]:
        maximum, mass, total = carry
        k, v, mask = chunk
        k, v = hide_masked(k, mask), hide_masked(v, mask)
        raw = pairs.logits(q, k, scale)
        if mask is not None:
            raw = jnp.where(mask[:, None, None, :], raw, -jnp.inf)
        new = jnp.maximum(maximum, jnp.max(raw, axis=-1))
        decay = jnp.exp(maximum - new)
        weights = jnp.exp(raw - new[..., None])
        mass = decay * mass + jnp.sum(weights, axis=-1)
        total = decay[..., None] * total + pairs.einsum("bhmn,bnhc->bhmc", weights.astype(v.dtype), v)
        return (new, mass, total), None

    carry = (jnp.full(shape, LOWEST), jnp.zeros(shape), jnp.zeros((*shape, channels)))
    (maximum, mass, total), _ = fold_chunks(body, carry, (k, v, mask), pairs.chunks(q, k))
    local = Statistics(total, maximum, mass)
    return local._replace(latents=total / local.divisor[..., None])


def gradient_chunks(operands: Operands, statistics: Statistics, dz: jax.Array, scale: float, pairs: Pairs) -> Operands:
    """Return the gradients of all operands from the complete `dz`."""
    q, k, v, mask, _ = operands
    dtype = k.dtype
    # The mass divides the rows of dz and their mean instead of every weight, so that no weight is ever normalised.
    slopes = dz / statistics.divisor[..., None]
    mean = jnp.sum(slopes * statistics.latents, axis=-1)
    slopes = slopes.astype(dtype)

    def body(dq: jax.Array, chunk: tuple) -> tuple[jax.Array, tuple]:
        k, v, mask = chunk
        k, v = hide_masked(k, mask), None if v is None else hide_masked(v, mask)
        raw = pairs.logits(q, k, scale)
        if mask is not None:
            raw = jnp.where(mask[:, None, None, :], raw, -jnp.inf)
        weights = jnp.exp(raw - statistics.maximum[..., None])
        dv = pairs.einsum("bhmn,bhmc->bnhc", weights.astype(dtype), slopes)
        slope = pairs.einsum("bnhc,bhmc->bhmn", k if v is None else v, slopes) - mean[..., None]
        gradient = scale * weights * slope
        dk = pairs.point_gradient(gradient, q)
        outputs = ((dk + dv).astype(dtype), None) if v is None else (dk.astype(dtype), dv.astype(dtype))
        return dq + pairs.latent_gradient(gradient, k, q), outputs

    dq, (dk, dv) = fold_chunks(body, jnp.zeros(q.shape), (k, v, mask), pairs.chunks(q, k))
    return Operands(dq.astype(dtype), dk, dv, None)


@dataclass(frozen=True)
class ChunkedBackend(Backend):
    """The gather in chunks of points."""

    target: Target

    def gather(self, operands: Operands, *, scale: float) -> Statistics:
        return gather_chunks(operands, scale, Pairs(self.target))

    def exponential(self, x: jax.Array) -> jax.Array:
        return jnp.exp(x)

    def gradients(self, operands: Operands, statistics: Statistics, dz: jax.Array, *, scale: float) -> Operands:
        return gradient_chunks(operands, statistics, dz, scale, Pairs(self.target))
