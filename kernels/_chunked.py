"""Work in chunks of points in XLA: memory O(N) on any device, and points that lie sharded stay where they are."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from kernels._target import Target

# Stands for minus infinity where a difference with itself must stay finite.
LOWEST = -1e30


def chunk_elements(target: Target) -> int:
    """Return how many logits are held at once: cache-sized on a CPU, large enough to fill an accelerator."""
    return 2**22 if target.platform == "cpu" else 2**26


def einsum(target: Target, subscripts: str, *operands: jax.Array) -> jax.Array:
    """Contract with float32 accumulation; float32 operands are multiplied as float32, never as TF32."""
    if target.platform == "cpu":  # which has no products of bfloat16 with float32 sums; in float32 they are exact
        operands = tuple(x.astype(jnp.float32) for x in operands)
    return jnp.einsum(subscripts, *operands, precision="highest", preferred_element_type=jnp.float32)


@dataclass(frozen=True)
class Pairs:
    """Products of latents `[H, M, D]` or `[B, H, M, D]` with points `[B, N, H, D]`, float32, logits `[B, H, M, N]`."""

    target: Target

    def einsum(self, subscripts: str, *operands: jax.Array) -> jax.Array:
        """Contract; see `einsum`."""
        return einsum(self.target, subscripts, *operands)

    def logits(self, q: jax.Array, k: jax.Array, scale: float) -> jax.Array:
        """Return `scale · q kᵀ`."""
        return scale * self.einsum("hmd,bnhd->bhmn" if q.ndim == 3 else "bhmd,bnhd->bhmn", q, k)

    def latent_gradient(self, gradient: jax.Array, k: jax.Array, q: jax.Array) -> jax.Array:
        """Return the gradient of q, in its shape, from that of `q kᵀ`."""
        return self.einsum("bhmn,bnhd->hmd" if q.ndim == 3 else "bhmn,bnhd->bhmd", gradient.astype(k.dtype), k)

    def point_gradient(self, gradient: jax.Array, q: jax.Array) -> jax.Array:
        """Return the gradient of k from that of `q kᵀ`."""
        return self.einsum("bhmn,hmd->bnhd" if q.ndim == 3 else "bhmn,bhmd->bnhd", gradient.astype(q.dtype), q)

    def chunks(self, q: jax.Array, k: jax.Array) -> int:
        """Return into how many chunks the points are cut.

        A power of two, so that the usual point counts divide by it and a sharded axis stays sharded.
        """
        batch, points, heads, _ = k.shape
        wanted = -(-batch * heads * q.shape[-2] * points // chunk_elements(self.target))
        return min(2 ** math.ceil(math.log2(wanted)), points)


def fold_chunks(body: Callable[..., Any], carry: Any, points: Any, chunks: int) -> tuple[Any, Any]:
    """Fold `carry, outputs = body(carry, chunk)` over chunks of axis 1 of every array in `points`.

    Chunk i holds the points i, i + chunks, i + 2 chunks, ...: a slice along an axis that is never sharded, so that
    points which lie sharded over a mesh stay where they are. The few points beyond a multiple of `chunks` come last.
    """
    if chunks == 1:
        return body(carry, points)
    whole = jax.tree.leaves(points)[0].shape[1] // chunks * chunks
    strided = jax.tree.map(lambda x: x[:, :whole].reshape(x.shape[0], -1, chunks, *x.shape[2:]), points)
    tail = jax.tree.map(lambda x: x[:, whole:], points)

    def chunk(index: jax.Array | int) -> Any:
        return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, index, 2, keepdims=False), strided)

    def step(index: jax.Array, state: tuple[Any, Any]) -> tuple[Any, Any]:
        carry, buffers = state
        carry, outputs = body(carry, chunk(index))
        update = functools.partial(jax.lax.dynamic_update_index_in_dim, index=index, axis=2)
        return carry, jax.tree.map(update, buffers, outputs)

    _, shapes = jax.eval_shape(lambda: body(carry, chunk(0)))
    buffers = jax.tree.map(lambda s: jnp.zeros((*s.shape[:2], chunks, *s.shape[2:]), s.dtype), shapes)
    carry, outputs = jax.lax.fori_loop(0, chunks, step, (carry, buffers))
    outputs = jax.tree.map(lambda x: x.reshape(x.shape[0], whole, *x.shape[3:]), outputs)
    if jax.tree.leaves(tail)[0].shape[1]:
        carry, last = body(carry, tail)
        outputs = jax.tree.map(lambda x, y: jnp.concatenate([x, y], axis=1), outputs, last)
    return carry, outputs


def hide_masked(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Zero the rows of masked points, so that whatever padding holds never reaches a product."""
    return x if mask is None else jnp.where(mask[:, :, None, None], x, 0)
