"""The FLARE mixer in chunks of points: memory O(N) on any device, gradients by recomputation (README.md)."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kernels._pallas import platform
from kernels._sharding import vary_like
from kernels.flare_mixer import dispatch
from kernels.flare_mixer.operands import Operands, Statistics
from kernels.flare_mixer.sharding import merge_devices, sum_latent_gradient

# Stands for minus infinity where a difference with itself must stay finite.
LOWEST = -1e30


def _einsum(subscripts: str, *operands: jax.Array) -> jax.Array:
    """Contract with float32 accumulation; float32 operands are multiplied as float32, never as TF32."""
    if platform() == "cpu":  # which has no products of bfloat16 with float32 sums; in float32 they are exact
        operands = tuple(x.astype(jnp.float32) for x in operands)
    return jnp.einsum(subscripts, *operands, precision="highest", preferred_element_type=jnp.float32)


def _logits(q: jax.Array, k: jax.Array, scale: float) -> jax.Array:
    return scale * _einsum("hmd,bnhd->bhmn" if q.ndim == 3 else "bhmd,bnhd->bhmn", q, k)


def _latent_gradient(gradient: jax.Array, k: jax.Array, q: jax.Array) -> jax.Array:
    return _einsum("bhmn,bnhd->hmd" if q.ndim == 3 else "bhmn,bnhd->bhmd", gradient.astype(k.dtype), k)


def _point_gradient(gradient: jax.Array, q: jax.Array) -> jax.Array:
    return _einsum("bhmn,hmd->bnhd" if q.ndim == 3 else "bhmn,bhmd->bnhd", gradient.astype(q.dtype), q)


def _number_of_chunks(operands: Operands) -> int:
    """A power of two, so that the usual point counts divide by it and a sharded axis stays sharded."""
    batch, points, heads, _ = operands.k.shape
    elements = batch * heads * operands.q.shape[-2] * points
    wanted = -(-elements // dispatch.chunk_elements())
    return min(2 ** math.ceil(math.log2(wanted)), points)


def _fold_chunks(body: Callable[..., Any], carry: Any, points: Any, chunks: int) -> tuple[Any, Any]:
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
    varying = jax.tree.leaves(points)
    buffers = jax.tree.map(
        lambda s: vary_like(jnp.zeros((*s.shape[:2], chunks, *s.shape[2:]), s.dtype), *varying), shapes
    )
    carry, outputs = jax.lax.fori_loop(0, chunks, step, (carry, buffers))
    outputs = jax.tree.map(lambda x: x.reshape(x.shape[0], whole, *x.shape[3:]), outputs)
    if jax.tree.leaves(tail)[0].shape[1]:
        carry, last = body(carry, tail)
        outputs = jax.tree.map(lambda x, y: jnp.concatenate([x, y], axis=1), outputs, last)
    return carry, outputs


def _hide_masked(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Zero the rows of masked points, so that whatever padding holds never reaches a product."""
    return x if mask is None else jnp.where(mask[:, :, None, None], x, 0)


def _gather(operands: Operands, scale: float, axis_name: str | None) -> Statistics:
    """Online softmax over chunks of points."""
    q, k, v = operands.q, operands.k, operands.v
    batch, _, heads, channels = v.shape
    shape = (batch, heads, q.shape[-2])

    def body(carry: tuple, chunk: tuple) -> tuple[tuple, None]:
        maximum, mass, total = carry
        k, v, mask = chunk
        k, v = _hide_masked(k, mask), _hide_masked(v, mask)
        logits = _logits(q, k, scale)
        if mask is not None:
            logits = jnp.where(mask[:, None, None, :], logits, -jnp.inf)
        new = jnp.maximum(maximum, jnp.max(logits, axis=-1))
        decay = jnp.exp(maximum - new)
        weights = jnp.exp(logits - new[..., None])
        mass = decay * mass + jnp.sum(weights, axis=-1)
        total = decay[..., None] * total + _einsum("bhmn,bnhc->bhmc", weights.astype(v.dtype), v)
        return (new, mass, total), None

    carry = (jnp.full(shape, LOWEST), jnp.zeros(shape), jnp.zeros((*shape, channels)))
    carry = jax.tree.map(lambda x: vary_like(x, q, k, v), carry)
    (maximum, mass, total), _ = _fold_chunks(body, carry, (k, v, operands.mask), _number_of_chunks(operands))
    local = Statistics(total, maximum, mass)
    local = local._replace(latents=total / local.divisor[..., None])
    return merge_devices(local, axis_name, jnp.exp)


def _scatter(operands: Operands, latents: jax.Array, scale: float) -> jax.Array:
    q, k = operands.scatter_pair
    dtype = operands.v.dtype
    latents = latents.astype(dtype)

    def body(carry: None, chunk: tuple) -> tuple[None, jax.Array]:
        k, mask = chunk
        weights = jax.nn.softmax(_logits(q, _hide_masked(k, mask), scale), axis=-2)
        y = _einsum("bhmn,bhmc->bnhc", weights.astype(dtype), latents)
        return None, _hide_masked(y, mask).astype(dtype)

    return _fold_chunks(body, None, (k, operands.mask), _number_of_chunks(operands))[1]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _mix(operands: Operands, scale: float, axis_name: str | None) -> tuple[jax.Array, jax.Array]:
    return _mix_forward(operands, scale, axis_name)[0]


def _mix_forward(operands: Operands, scale: float, axis_name: str | None) -> tuple[Any, Any]:
    statistics = _gather(operands, scale, axis_name)
    y = _scatter(operands, statistics.latents, scale)
    return (y, statistics.latents), (operands, statistics)


def _mix_backward(scale: float, axis_name: str | None, residuals: tuple, cotangents: tuple) -> tuple[Operands]:
    operands, statistics = residuals
    dy, dz_direct = cotangents
    dz = _backward_latents(operands, dy, scale)
    dz = sum_latent_gradient(dz, dz_direct.astype(jnp.float32), axis_name)
    return (_backward_operands(operands, statistics, dy, dz, scale),)


def _backward_latents(operands: Operands, dy: jax.Array, scale: float) -> jax.Array:
    """First pass: the gradient of the latents, from the scatter."""
    q, k = operands.scatter_pair

    def body(dz: jax.Array, chunk: tuple) -> tuple[jax.Array, None]:
        k, dy, mask = chunk
        weights = jax.nn.softmax(_logits(q, _hide_masked(k, mask), scale), axis=-2)
        return dz + _einsum("bhmn,bnhc->bhmc", weights.astype(dy.dtype), _hide_masked(dy, mask)), None

    batch, _, heads, channels = dy.shape
    dz = vary_like(jnp.zeros((batch, heads, q.shape[-2], channels)), q, k, dy)
    return _fold_chunks(body, dz, (k, dy, operands.mask), _number_of_chunks(operands))[0]


def _backward_operands(
    operands: Operands, statistics: Statistics, dy: jax.Array, dz: jax.Array, scale: float
) -> Operands:
    """Second pass: every gradient that needs the complete `dz`, with the logits computed once per chunk."""
    q, k, v, q_decode, k_decode, mask = operands
    dtype = v.dtype
    # The mass divides the rows of dz and their mean instead of every weight, so that no weight is ever normalised.
    dz_over_mass = dz / statistics.divisor[..., None]
    mean_over_mass = jnp.sum(dz_over_mass * statistics.latents, axis=-1)
    dz_over_mass, latents = dz_over_mass.astype(dtype), statistics.latents.astype(dtype)

    def body(carry: tuple, chunk: tuple) -> tuple[tuple, tuple]:
        dq, dq_decode = carry
        k, v, k_decode, dy, mask = chunk
        k, v, dy = _hide_masked(k, mask), _hide_masked(v, mask), _hide_masked(dy, mask)
        logits = decode_logits = _logits(q, k, scale)
        if operands.separate:
            k_decode = _hide_masked(k_decode, mask)
            decode_logits = _logits(q_decode, k_decode, scale)
        if mask is not None:
            logits = jnp.where(mask[:, None, None, :], logits, -jnp.inf)
        weights = jnp.exp(logits - statistics.maximum[..., None])
        dv = _einsum("bhmn,bhmc->bnhc", weights.astype(dtype), dz_over_mass).astype(dtype)
        slope = _einsum("bnhc,bhmc->bhmn", v, dz_over_mass) - mean_over_mass[..., None]
        gradient = scale * weights * slope
        decode_weights = jax.nn.softmax(decode_logits, axis=-2)
        slope = _einsum("bnhc,bhmc->bhmn", dy, latents)
        slope = slope - jnp.sum(decode_weights * slope, axis=-2, keepdims=True)
        decode_gradient = scale * decode_weights * slope
        if not operands.separate:
            gradient = gradient + decode_gradient
            return (dq + _latent_gradient(gradient, k, q), None), (_point_gradient(gradient, q).astype(dtype), dv, None)
        carry = (
            dq + _latent_gradient(gradient, k, q),
            dq_decode + _latent_gradient(decode_gradient, k_decode, q_decode),
        )
        dk_decode = _point_gradient(decode_gradient, q_decode).astype(dtype)
        return carry, (_point_gradient(gradient, q).astype(dtype), dv, dk_decode)

    def start(x: jax.Array | None) -> jax.Array | None:
        return None if x is None else vary_like(jnp.zeros(x.shape), q, k, v, dy)

    (dq, dq_decode), (dk, dv, dk_decode) = _fold_chunks(
        body, (start(q), start(q_decode)), (k, v, k_decode, dy, mask), _number_of_chunks(operands)
    )
    dq_decode = None if dq_decode is None else dq_decode.astype(dtype)
    return Operands(dq.astype(dtype), dk, dv, dq_decode, dk_decode, None)


_mix.defvjp(_mix_forward, _mix_backward)


def chunked_mixer(operands: Operands, *, scale: float, axis_name: str | None) -> tuple[jax.Array, jax.Array]:
    """Return the mixed points and the float32 latents; `axis_name` is the mesh axis over which points are sharded."""
    return _mix(operands, scale, axis_name)
