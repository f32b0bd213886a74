"""The FLARE mixer as two calls of cuDNN's fused attention, for float16 and bfloat16 on NVIDIA GPUs."""

import math

import jax
import jax.numpy as jnp

from kernels._cudnn import fused_attention
from kernels.flare_mixer.operands import Operands

# What a masked point's logits are lowered by: enough for a weight of exactly zero beside any other point.
MASKED_LOGIT = 30_000.0


def _common_width(operands: Operands) -> int:
    """Return the head width that keys and values are zero-padded to: one width for both, a multiple of 8."""
    masked = operands.mask is not None  # the mask needs a column of its own in the gather's keys
    widths = [operands.k.shape[-1] + masked, operands.v.shape[-1], operands.scatter_pair[1].shape[-1]]
    return -(-max(widths) // 8) * 8


def _pad(x: jax.Array, width: int) -> jax.Array:
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, width - x.shape[-1])])


def _as_tokens(latents: jax.Array, batch: int) -> jax.Array:
    """Turn `[H, M, D]` or `[B, H, M, D]` into `[B, M, H, D]`."""
    latents = jnp.broadcast_to(latents, (batch, *latents.shape[-3:]))
    return jnp.swapaxes(latents, 1, 2)


def cudnn_mixer(operands: Operands, *, scale: float) -> tuple[jax.Array, jax.Array]:
    """Return the mixed points and the float32 latents (rounded to the dtype of the operands on the way).

    cuDNN takes a padding length per sample but no arbitrary mask of the keys, so a mask becomes one more column of q
    and k, whose product lowers the logits of masked points until their weights are exactly zero.
    """
    q, k, v, mask = operands.q, operands.k, operands.v, operands.mask
    batch, _, _, channels = v.shape
    width = _common_width(operands)
    hidden = None if mask is None else ~mask[:, :, None, None]
    if hidden is not None:
        k, v = jnp.where(hidden, 0, k), jnp.where(hidden, 0, v)
        column = math.sqrt(MASKED_LOGIT / scale)
        q = jnp.concatenate([q, jnp.full_like(q[..., :1], column)], axis=-1)
        k = jnp.concatenate([k, jnp.where(hidden, -column, 0).astype(k.dtype) + jnp.zeros_like(k[..., :1])], axis=-1)
    tokens = fused_attention(_pad(_as_tokens(q, batch), width), _pad(k, width), _pad(v, width), scale=scale)
    if mask is not None:  # a sample without real points has a softmax over masked ones only
        tokens = jnp.where(jnp.any(mask, axis=1)[:, None, None, None], tokens, 0)
    q, k = operands.scatter_pair
    if hidden is not None:
        k = jnp.where(hidden, 0, k)
    y = fused_attention(_pad(k, width), _pad(_as_tokens(q, batch), width), tokens, scale=scale)[..., :channels]
    if hidden is not None:
        y = jnp.where(hidden, 0, y)
    return y, jnp.swapaxes(tokens[..., :channels], 1, 2).astype(jnp.float32)
