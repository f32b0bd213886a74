"""The FLARE mixer in chunks of points: memory O(N) on any device, gradients by recomputation (README.md)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from kernels._chunked import einsum, fold_chunks, hide_masked, latent_gradient, logits, number_of_chunks, point_gradient
from kernels._sharding import vary_like
from kernels._statistics import Statistics, merge_devices, sum_latent_gradient
from kernels.flare_mixer.operands import Operands
from kernels.gather import operands as gather
from kernels.gather.chunked import gather_chunks


def _scatter(operands: Operands, latents: jax.Array, scale: float) -> jax.Array:
    q, k = operands.scatter_pair
    dtype = operands.v.dtype
    latents = latents.astype(dtype)

    def body(carry: None, chunk: tuple) -> tuple[None, jax.Array]:
        k, mask = chunk
        weights = jax.nn.softmax(logits(q, hide_masked(k, mask), scale), axis=-2)
        y = einsum("bhmn,bhmc->bnhc", weights.astype(dtype), latents)
        return None, hide_masked(y, mask).astype(dtype)

    return fold_chunks(body, None, (k, operands.mask), number_of_chunks(operands.q, operands.k))[1]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _mix(operands: Operands, scale: float, axis_name: str | None) -> tuple[jax.Array, jax.Array]:
    return _mix_forward(operands, scale, axis_name)[0]


def _mix_forward(operands: Operands, scale: float, axis_name: str | None) -> tuple[Any, Any]:
    local = gather_chunks(gather.Operands(operands.q, operands.k, operands.v, operands.mask), scale)
    statistics = merge_devices(local, axis_name, jnp.exp)
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
        weights = jax.nn.softmax(logits(q, hide_masked(k, mask), scale), axis=-2)
        return dz + einsum("bhmn,bnhc->bhmc", weights.astype(dy.dtype), hide_masked(dy, mask)), None

    batch, _, heads, channels = dy.shape
    dz = vary_like(jnp.zeros((batch, heads, q.shape[-2], channels)), q, k, dy)
    return fold_chunks(body, dz, (k, dy, operands.mask), number_of_chunks(operands.q, operands.k))[0]


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
        k, v, dy = hide_masked(k, mask), hide_masked(v, mask), hide_masked(dy, mask)
        gather_logits = decode_logits = logits(q, k, scale)
        if operands.separate:
            k_decode = hide_masked(k_decode, mask)
            decode_logits = logits(q_decode, k_decode, scale)
        if mask is not None:
            gather_logits = jnp.where(mask[:, None, None, :], gather_logits, -jnp.inf)
        weights = jnp.exp(gather_logits - statistics.maximum[..., None])
        dv = einsum("bhmn,bhmc->bnhc", weights.astype(dtype), dz_over_mass).astype(dtype)
        slope = einsum("bnhc,bhmc->bhmn", v, dz_over_mass) - mean_over_mass[..., None]
        gradient = scale * weights * slope
        decode_weights = jax.nn.softmax(decode_logits, axis=-2)
        slope = einsum("bnhc,bhmc->bhmn", dy, latents)
        slope = slope - jnp.sum(decode_weights * slope, axis=-2, keepdims=True)
        decode_gradient = scale * decode_weights * slope
        if not operands.separate:
            gradient = gradient + decode_gradient
            return (dq + latent_gradient(gradient, k, q), None), (point_gradient(gradient, q).astype(dtype), dv, None)
        carry = (
            dq + latent_gradient(gradient, k, q),
            dq_decode + latent_gradient(decode_gradient, k_decode, q_decode),
        )
        dk_decode = point_gradient(decode_gradient, q_decode).astype(dtype)
        return carry, (point_gradient(gradient, q).astype(dtype), dv, dk_decode)

    def start(x: jax.Array | None) -> jax.Array | None:
        return None if x is None else vary_like(jnp.zeros(x.shape), q, k, v, dy)

    (dq, dq_decode), (dk, dv, dk_decode) = fold_chunks(
        body, (start(q), start(q_decode)), (k, v, k_decode, dy, mask), number_of_chunks(operands.q, operands.k)
    )
    dq_decode = None if dq_decode is None else dq_decode.astype(dtype)
    return Operands(dq.astype(dtype), dk, dv, dq_decode, dk_decode, None)


_mix.defvjp(_mix_forward, _mix_backward)


def chunked_mixer(operands: Operands, *, scale: float, axis_name: str | None) -> tuple[jax.Array, jax.Array]:
    """Return the mixed points and the float32 latents; `axis_name` is the mesh axis over which points are sharded."""
    return _mix(operands, scale, axis_name)
