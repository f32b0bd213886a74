"""The gather in chunks of points: memory O(N) on any device, gradients by recomputation (README.md)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from kernels._chunked import (
    LOWEST,
    einsum,
    fold_chunks,
    hide_masked,
    latent_gradient,
    logits,
    number_of_chunks,
    point_gradient,
)
from kernels._sharding import vary_like
from kernels._statistics import Statistics, merge_devices, sum_latent_gradient
from kernels.gather.operands import Operands


def gather_chunks(operands: Operands, scale: float) -> Statistics:
    """Return the latents and the statistics of their softmax over the points, by an online softmax over chunks."""
    q, k, v, mask = operands.q, operands.k, operands.values, operands.mask
    batch, _, heads, channels = v.shape
    shape = (batch, heads, q.shape[-2])

    def body(carry: tuple, chunk: tuple) -> tuple[tuple, None]:
        maximum, mass, total = carry
        k, v, mask = chunk
        k, v = hide_masked(k, mask), hide_masked(v, mask)
        raw = logits(q, k, scale)
        if mask is not None:
            raw = jnp.where(mask[:, None, None, :], raw, -jnp.inf)
        new = jnp.maximum(maximum, jnp.max(raw, axis=-1))
        decay = jnp.exp(maximum - new)
        weights = jnp.exp(raw - new[..., None])
        mass = decay * mass + jnp.sum(weights, axis=-1)
        total = decay[..., None] * total + einsum("bhmn,bnhc->bhmc", weights.astype(v.dtype), v)
        return (new, mass, total), None

    carry = (jnp.full(shape, LOWEST), jnp.zeros(shape), jnp.zeros((*shape, channels)))
    carry = jax.tree.map(lambda x: vary_like(x, q, k, v), carry)
    (maximum, mass, total), _ = fold_chunks(body, carry, (k, v, mask), number_of_chunks(q, k))
    local = Statistics(total, maximum, mass)
    return local._replace(latents=total / local.divisor[..., None])


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gather(operands: Operands, scale: float, axis_name: str | None) -> jax.Array:
    return _forward(operands, scale, axis_name)[0]


def _forward(operands: Operands, scale: float, axis_name: str | None) -> tuple[jax.Array, Any]:
    statistics = merge_devices(gather_chunks(operands, scale), axis_name, jnp.exp)
    return statistics.latents, (operands, statistics)


def _backward(scale: float, axis_name: str | None, residuals: tuple, dz: jax.Array) -> tuple[Operands]:
    operands, statistics = residuals
    q, k, v, mask = operands
    dtype = k.dtype
    nothing = vary_like(jnp.zeros_like(dz), k)
    dz = sum_latent_gradient(nothing, dz, axis_name)
    # The mass divides the rows of dz and their mean instead of every weight, so that no weight is ever normalised.
    slopes = dz / statistics.divisor[..., None]
    mean = jnp.sum(slopes * statistics.latents, axis=-1)
    slopes = slopes.astype(dtype)

    def body(dq: jax.Array, chunk: tuple) -> tuple[jax.Array, tuple]:
        k, v, mask = chunk
        k, v = hide_masked(k, mask), None if v is None else hide_masked(v, mask)
        raw = logits(q, k, scale)
        if mask is not None:
            raw = jnp.where(mask[:, None, None, :], raw, -jnp.inf)
        weights = jnp.exp(raw - statistics.maximum[..., None])
        dv = einsum("bhmn,bhmc->bnhc", weights.astype(dtype), slopes)
        slope = einsum("bnhc,bhmc->bhmn", k if v is None else v, slopes) - mean[..., None]
        gradient = scale * weights * slope
        dk = point_gradient(gradient, q)
        outputs = ((dk + dv).astype(dtype), None) if v is None else (dk.astype(dtype), dv.astype(dtype))
        return dq + latent_gradient(gradient, k, q), outputs

    dq = vary_like(jnp.zeros(q.shape), q, k, k if v is None else v, dz)
    dq, (dk, dv) = fold_chunks(body, dq, (k, v, mask), number_of_chunks(q, k))
    return (Operands(dq.astype(dtype), dk, dv, None),)


_gather.defvjp(_forward, _backward)


def chunked_gather(operands: Operands, *, scale: float, axis_name: str | None) -> jax.Array:
    """Return the float32 latents; `axis_name` is the mesh axis over which points are sharded."""
    return _gather(operands, scale, axis_name)
