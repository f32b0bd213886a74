"""The definition of the FLARE mixer in plain jnp; every other implementation is compared with this one."""

import jax
import jax.numpy as jnp

from kernels.flare_mixer.operands import Operands
from kernels.gather.reference import exact, gather_weights, logits


def reference_mixer(operands: Operands, *, scale: float) -> tuple[jax.Array, jax.Array]:
    """Return the mixed points, in the dtype of `v`, and the float32 latents (README.md, "Definition")."""
    mask = operands.mask
    points = (operands.k, operands.v, operands.k_decode if operands.separate else operands.k)
    k, v, k_decode = (exact(x, mask) for x in points)
    gather_logits = decode_logits = logits(exact(operands.q), k, scale)
    if operands.separate:
        decode_logits = logits(exact(operands.q_decode), k_decode, scale)
    latents = jnp.einsum("bhmn,bnhc->bhmc", gather_weights(gather_logits, mask), v, precision="highest")
    y = jnp.einsum("bhmn,bhmc->bnhc", jax.nn.softmax(decode_logits, axis=-2), latents, precision="highest")
    return exact(y, mask).astype(operands.v.dtype), latents
