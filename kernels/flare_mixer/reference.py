"""The definition of the FLARE mixer in plain jnp; every other implementation is compared with this one."""

import jax
import jax.numpy as jnp

from kernels.flare_mixer.operands import Operands


def _logits(latents: jax.Array, points: jax.Array, scale: float) -> jax.Array:
    subscripts = "hmd,bnhd->bhmn" if latents.ndim == 3 else "bhmd,bnhd->bhmn"
    return scale * jnp.einsum(subscripts, latents, points, precision="highest")


def _float32(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Cast to float32 and zero the masked rows: padding, infinities and NaN included, must not reach a product."""
    x = x.astype(jnp.float32)
    return x if mask is None else jnp.where(mask[:, :, None, None], x, 0.0)


def _gather_weights(logits: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Softmax over the points that take part; all zeros where none does."""
    if mask is None:
        return jax.nn.softmax(logits, axis=-1)
    logits = jnp.where(mask[:, None, None, :], logits, -jnp.inf)
    maximum = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    weights = jnp.exp(logits - jnp.where(jnp.isfinite(maximum), maximum, 0.0))
    mass = jnp.sum(weights, axis=-1, keepdims=True)
    return weights / jnp.where(mass > 0, mass, 1.0)


def reference_mixer(operands: Operands, *, scale: float) -> tuple[jax.Array, jax.Array]:
    """Return the mixed points, in the dtype of `v`, and the float32 latents (README.md, "Definition")."""
    mask = operands.mask
    points = (operands.k, operands.v, operands.k_decode if operands.separate else operands.k)
    k, v, k_decode = (_float32(x, mask) for x in points)
    logits = decode_logits = _logits(_float32(operands.q, None), k, scale)
    if operands.separate:
        decode_logits = _logits(_float32(operands.q_decode, None), k_decode, scale)
    latents = jnp.einsum("bhmn,bnhc->bhmc", _gather_weights(logits, mask), v, precision="highest")
    y = jnp.einsum("bhmn,bhmc->bnhc", jax.nn.softmax(decode_logits, axis=-2), latents, precision="highest")
    return _float32(y, mask).astype(operands.v.dtype), latents
