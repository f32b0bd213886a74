"""The FLARE mixer in Pallas kernels: four launches for forward and backward, memory O(N) (README.md, "Kernels")."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from kernels._statistics import Statistics, merge_devices, sum_latent_gradient
from kernels.flare_mixer.dispatch import KernelBlocks
from kernels.flare_mixer.operands import Operands
from kernels.flare_mixer.pallas_backward_latents import latent_gradient
from kernels.flare_mixer.pallas_backward_operands import operand_gradients
from kernels.flare_mixer.pallas_forward import gather, scatter
from kernels.flare_mixer.pallas_scales import operand_exponents


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _mix(operands: Operands, scale: float, axis_name: str | None, blocks: KernelBlocks) -> tuple[jax.Array, jax.Array]:
    return _mix_forward(operands, scale, axis_name, blocks)[0]


def _mix_forward(operands: Operands, scale: float, axis_name: str | None, blocks: KernelBlocks) -> tuple[Any, Any]:
    exponents = operand_exponents(operands)
    local = merge_splits(gather(operands, exponents, scale, blocks.gather))
    statistics = merge_devices(local, axis_name, jnp.exp2)
    latents = statistics.latents.astype(operands.v.dtype)
    y, maximum, mass = scatter(operands, latents, exponents, scale, blocks.scatter)
    return (y, statistics.latents), (operands, statistics, y, maximum, mass)


def merge_splits(partial: Statistics) -> Statistics:
    """Merge the latents `[B, H, splits, M, C]` that each split of the points gathered."""
    if partial.mass.shape[2] == 1:
        return Statistics(*(x[:, :, 0] for x in partial))
    maximum = jnp.max(partial.maximum, axis=2)
    share = partial.mass * jnp.exp2(partial.maximum - maximum[:, :, None])
    total = jnp.sum(share[..., None] * partial.latents, axis=2)
    merged = Statistics(total, maximum, jnp.sum(share, axis=2))
    return merged._replace(latents=total / merged.divisor[..., None])


def _mix_backward(
    scale: float, axis_name: str | None, blocks: KernelBlocks, residuals: tuple, cotangents: tuple
) -> tuple[Operands]:
    operands, statistics, y, maximum, mass = residuals
    dy, dz_direct = cotangents
    exponents = operand_exponents(operands)  # again: constants are not kept
    dz = latent_gradient(operands, exponents, dy, maximum, mass, scale, blocks.latent_gradient)
    dz = sum_latent_gradient(dz, dz_direct, axis_name)
    gradients = operand_gradients(
        operands, exponents, statistics, (maximum, mass), y, dy, dz, scale, blocks.operand_gradients
    )
    queries = {name: _like(getattr(gradients, name), getattr(operands, name)) for name in ("q", "q_decode")}
    return (gradients._replace(**queries),)


def _like(gradient: jax.Array | None, latents: jax.Array | None) -> jax.Array | None:
    """Sum the gradients of all samples for latents that the batch shares, in the dtype of the latents."""
    if gradient is None:
        return None
    return (jnp.sum(gradient, axis=0) if latents.ndim == 3 else gradient).astype(latents.dtype)


_mix.defvjp(_mix_forward, _mix_backward)


def pallas_mixer(
    operands: Operands, *, scale: float, axis_name: str | None, blocks: KernelBlocks
) -> tuple[jax.Array, jax.Array]:
    """Return the mixed points and the float32 latents; `axis_name` is the mesh axis over which points are sharded."""
    return _mix(operands, scale, axis_name, blocks)
