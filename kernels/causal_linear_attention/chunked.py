"""Causal linear attention in XLA: one split per chunk of points, all chunks at once, memory O(N) on any device."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from kernels._chunked import einsum
from kernels._target import Target
from kernels.causal_linear_attention.recurrence import Backend


@dataclass(frozen=True)
class ChunkedBackend(Backend):
    """The two operations for chunks of `points` points; a ragged last chunk is padded with zeros."""

    points: int
    target: Target

    def outer_sums(self, a: jax.Array, b: jax.Array) -> jax.Array:
        return self._einsum("bsnhd,bsnhc->bhsdc", self._chunks(a), self._chunks(b))

    def mix(
        self, q: jax.Array, k: jax.Array, v: jax.Array, starts: jax.Array, scale: float, reverse: bool
    ) -> jax.Array:
        chunk_q, chunk_k, chunk_v = map(self._chunks, (q, k, v))
        weights = scale * self._einsum("bsnhd,bsmhd->bhsnm", chunk_q, chunk_k)
        seen = jnp.tri(weights.shape[-1], dtype=bool)
        weights = jnp.where(seen.T if reverse else seen, weights, 0.0)
        if q.dtype != jnp.float16:
            starts, weights = starts.astype(q.dtype), weights.astype(q.dtype)
        y = self._einsum("bsnhd,bhsdc->bsnhc", chunk_q, starts) + self._einsum("bhsnm,bsmhc->bsnhc", weights, chunk_v)
        return y.reshape(v.shape[0], -1, *v.shape[2:])[:, : v.shape[1]].astype(v.dtype)

    def _einsum(self, subscripts: str, *operands: jax.Array) -> jax.Array:
        if any(x.dtype == jnp.float16 for x in operands):  # the state may exceed that type's range
            operands = tuple(x.astype(jnp.float32) for x in operands)
        return einsum(self.target, subscripts, *operands)

    def _chunks(self, x: jax.Array) -> jax.Array:
        points = min(self.points, x.shape[1])
        x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % points), (0, 0), (0, 0)))
        return x.reshape(x.shape[0], -1, points, *x.shape[2:])
