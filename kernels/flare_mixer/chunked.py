"""The FLARE mixer in chunks of points: memory O(N) on any device, gradients by recomputation (README.md)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from kernels._chunked import Pairs, fold_chunks, hide_masked
from kernels._statistics import Statistics
from kernels._target import Target
from kernels.flare_mixer.mixing import Backend, PointStatistics
from kernels.flare_mixer.operands import Operands
from kernels.gather.chunked import gather_chunks


def _scatter(operands: Operands, latents: jax.Array, scale: float, pairs: Pairs) -> jax.Array:
    q, k = operands.scatter_pair
    dtype = operands.v.dtype
    latents = latents.astype(dtype)

    def body(carry: None, chunk: tuple) -> tuple[None, jax.Array]:
        k, mask = chunk
        weights = jax.nn.softmax(pairs.logits(q, hide_masked(k, mask), scale), axis=-2)
        y = pairs.einsum("bhmn,bhmc->bnhc", weights.astype(dtype), latents)
        return None, hide_masked(y, mask).astype(dtype)

    return fold_chunks(body, None, (k, operands.mask), pairs.chunks(operands.q, operands.k))[1]


def _backward_latents(operands: Operands, dy: jax.Array, scale: float, pairs: Pairs) -> jax.Array:
    """First pass: the gradient of the latents, from the scatter."""
    q, k = operands.scatter_pair

    def body(dz: jax.Array, chunk: tuple) -> tuple[jax.Array, None]:
        k, dy, mask = chunk
        weights = jax.nn.softmax(pairs.logits(q, hide_masked(k, mask), scale), axis=-2)
        return dz + pairs.einsum("bhmn,bnhc->bhmc", weights.astype(dy.dtype), hide_masked(dy, mask)), None

    batch, _, heads, channels = dy.shape
    dz = jnp.zeros((batch, heads, q.shape[-2], channels))
    return fold_chunks(body, dz, (k, dy, operands.mask), pairs.chunks(operands.q, operands.k))[0]


def _backward_operands(
    operands: Operands, statistics: Statistics, dy: jax.Array, dz: jax.Array, scale: float, pairs: Pairs
) -> Operands:
    """Second pass: every gradient that needs the complete `dz`, with the logits computed once per chunk."""
    q, k, v, q_decode, k_decode, mask, _ = operands
    dtype = v.dtype
    # The mass divides the rows of dz and their mean instead of every weight, so that no weight is ever normalised.
    dz_over_mass = dz / statistics.divisor[..., None]
    mean_over_mass = jnp.sum(dz_over_mass * statistics.latents, axis=-1)
    dz_over_mass, latents = dz_over_mass.astype(dtype), statistics.latents.astype(dtype)

    def body(carry: tuple, chunk: tuple) -> tuple[tuple, tuple]:
        dq, dq_decode = carry
        k, v, k_decode, dy, mask = chunk
        k, v, dy = hide_masked(k, mask), hide_masked(v, mask), hide_masked(dy, mask)
        gather_logits = decode_logits = pairs.logits(q, k, scale)
        if operands.separate:
            k_decode = hide_masked(k_decode, mask)
            decode_logits = pairs.logits(q_decode, k_decode, scale)
        if mask is not None:
            gather_logits = jnp.where(mask[:, None, None, :], gather_logits, -jnp.inf)
        weights = jnp.exp(gather_logits - statistics.maximum[..., None])
        dv = pairs.einsum("bhmn,bhmc->bnhc", weights.astype(dtype), dz_over_mass).astype(dtype)
        slope = pairs.einsum("bnhc,bhmc->bhmn", v, dz_over_mass) - mean_over_mass[..., None]
        gradient = scale * weights * slope
        decode_weights = jax.nn.softmax(decode_logits, axis=-2)
        slope = pairs.einsum("bnhc,bhmc->bhmn", dy, latents)
        slope = slope - jnp.sum(decode_weights * slope, axis=-2, keepdims=True)
        decode_gradient = scale * decode_weights * slope
        if not operands.separate:
            gradient = gradient + decode_gradient
            return (dq + pairs.latent_gradient(gradient, k, q), None), (
                pairs.point_gradient(gradient, q).astype(dtype),
                dv,
                None,
            )
        carry = (
            dq + pairs.latent_gradient(gradient, k, q),
            dq_decode + pairs.latent_gradient(decode_gradient, k_decode, q_decode),
        )
        dk_decode = pairs.point_gradient(decode_gradient, q_decode).astype(dtype)
        return carry, (pairs.point_gradient(gradient, q).astype(dtype), dv, dk_decode)

    def start(x: jax.Array | None) -> jax.Array | None:
        return None if x is None else jnp.zeros(x.shape)

    (dq, dq_decode), (dk, dv, dk_decode) = fold_chunks(
        body, (start(q), start(q_decode)), (k, v, k_decode, dy, mask), pairs.chunks(operands.q, operands.k)
    )
    dq_decode = None if dq_decode is None else dq_decode.astype(dtype)
    return Operands(dq.astype(dtype), dk, dv, dq_decode, dk_decode, None)


@dataclass(frozen=True)
class ChunkedBackend(Backend):
    """The mixer in chunks of points, which computes the scatter's softmaxes again.

    With `keeps` it returns statistics of the points where they may be another backend's.
    """

    target: Target
    keeps: bool

    def gather(self, operands: Operands, *, scale: float) -> Statistics:
        return gather_chunks(operands.of_gather, scale, Pairs(self.target))

    def exponential(self, x: jax.Array) -> jax.Array:
        return jnp.exp(x)

    def scatter(self, operands: Operands, statistics: Statistics, *, scale: float) -> tuple[jax.Array, PointStatistics]:
        batch, points, heads, _ = operands.k.shape
        # Not of size 0: XLA of jaxlib 0.11 ends the process where such an array is one of a shard_map's.
        unused = jnp.zeros((batch, heads, points if self.keeps else 1), jnp.float32)
        return _scatter(operands, statistics.latents, scale, Pairs(self.target)), (unused, unused)

    def latent_gradient(
        self, operands: Operands, dy: jax.Array, statistics: PointStatistics, *, scale: float
    ) -> jax.Array:
        return _backward_latents(operands, dy, scale, Pairs(self.target))

    def operand_gradients(
        self,
        operands: Operands,
        statistics: Statistics,
        point_statistics: PointStatistics,
        y: jax.Array,
        dy: jax.Array,
        dz: jax.Array,
        *,
        scale: float,
    ) -> Operands:
        return _backward_operands(operands, statistics, dy, dz, scale, Pairs(self.target))
