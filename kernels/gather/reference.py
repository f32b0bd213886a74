"""The definition of the gather in plain jnp; every other implementation is compared with this one."""

import jax
import jax.numpy as jnp

from kernels.gather.operands import Operands


def exact(x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Cast to float32 and zero the masked rows: padding, infinities and NaN included, must not reach a product."""
    x = x.astype(jnp.float32)
    return x if mask is None else jnp.where(mask[:, :, None, None], x, 0.0)


def logits(latents: jax.Array, points: jax.Array, scale: float) -> jax.Array:
    """Return `scale · latents pointsᵀ`, `[B, H, M, N]`."""
    subscripts = "hmd,bnhd->bhmn" if latents.ndim == 3 else "bhmd,bnhd->bhmn"
    return scale * jnp.einsum(subscripts, latents, points, precision="highest")


def gather_weights(logits: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Softmax over the points that take part; all zeros where none does."""
    if mask is None:
        return jax.nn.softmax(logits, axis=-1)
    logits = jnp.where(mask[:, None, None, :], logits, -jnp.inf)
    maximum = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    weights = jnp.exp(logits - jnp.where(jnp.isfinite(maximum), maximum, 0.0))
    mass = jnp.sum(weights, axis=-1, keepdims=True)
    return weights / jnp.where(mass > 0, mass, 1.0)


def reference_gather(operands: Operands, *, scale: float) -> jax.Array:
    """Return the float32 latents (README.md, "Definition")."""
    mask = operands.mask
    weights = gather_weights(logits(exact(operands.q), exact(operands.k, mask), scale), mask)
    return jnp.einsum("bhmn,bnhc->bhmc", weights, exact(operands.values, mask), precision="highest")
