"""Softmax attention with a float32 softmax: plain, in chunks of queries, or through cuDNN's fused kernel."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_choice
from flare_jax.layers.dropout import Key, dropout
from flare_jax.layers.sharding import points_are_split
from flare_jax.mixers.chunks import map_over_chunks
from kernels import fused_attention, platform, wants_array_code

IMPLEMENTATIONS = ("xla", "cudnn")
# More softmax weights than these (1 GiB in float32) are not stored but computed again in the backward pass.
STORED_WEIGHTS = 2**28
# From so many keys on the fused kernel is chosen where it can serve.
FUSED_KEYS = 512
OLDEST_CAPABILITY = 8
_HALF = ("float16", "bfloat16")


def self_attention(
    q: Float[Array, "B N H D"],
    k: Float[Array, "B N H D"],
    v: Float[Array, "B N H D"],
    *,
    scale: float,
    mask: Bool[Array, "B N"] | None = None,
    drop_rate: float = 0.0,
    key: Key | None = None,
    implementation: str | None = None,
) -> Float[Array, "B N H D"]:
    """Return `softmax_attention` among many points, without holding all N² weights at once.

    `implementation` is "xla", in chunks of queries where the weights are many, or "cudnn", the fused kernel for 16-bit
    types on NVIDIA GPUs, without mask and dropout. None takes the latter where it can serve and N is large. Raises
    ValueError where "cudnn" is asked for and cannot serve.
    """
    if wants_array_code():
        return softmax_attention(q, k, v, scale=scale, mask=mask, drop_rate=drop_rate, key=key)
    dropped = bool(drop_rate) and key is not None
    obstacle = _obstacle(q, mask, dropped)
    fused = partial(fused_attention, scale=scale)
    if implementation == "cudnn":
        _refuse(obstacle)
        return fused(q, k, v)

    def plain(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        body = partial(softmax_attention, scale=scale, mask=mask, drop_rate=drop_rate, key=key)
        count = 1 if dropped else -(-q.shape[0] * q.shape[1] * q.shape[2] * k.shape[1] // STORED_WEIGHTS)
        return map_over_chunks(lambda rows: body(rows, k, v), [q], count)

    if implementation is None and not obstacle and k.shape[1] >= FUSED_KEYS:
        # What is traced on a GPU machine may be lowered for its CPU.
        return jax.lax.platform_dependent(q, k, v, cuda=fused, default=plain)
    return plain(q, k, v)


def fused_is_chosen(q: Float[Array, "B N H D"], keys: int) -> bool:
    """Return whether the fused kernel is chosen for these queries, without mask and dropout, on the default device."""
    return keys >= FUSED_KEYS and not _obstacle(q, None, False)


def check_fused(q: Float[Array, "B N H D"]) -> None:
    """Raise ValueError where the fused kernel cannot serve these queries, without mask and dropout."""
    _refuse(_obstacle(q, None, False))


def check_attention(implementation: str | None, dtype: DTypeLike, option: str = "implementation") -> str | None:
    """Return the implementation; raises ValueError naming `option` if it is unknown or has no kernel for `dtype`."""
    if implementation is None:
        return None
    check_choice(option, implementation, IMPLEMENTATIONS)
    name = jnp.dtype(dtype).name
    if implementation == "cudnn" and name not in _HALF:
        raise ValueError(f"{option} 'cudnn' takes {' or '.join(_HALF)}, not {name}; use 'xla' or another dtype")
    return implementation


def _refuse(obstacle: str) -> None:
    if obstacle:
        raise ValueError(f"implementation 'cudnn' {obstacle}; use 'xla'")


def _capability() -> str:
    """Return the compute capability of the GPU, such as "9.0"; AMD's GPUs have a name there."""
    return str(getattr(jax.local_devices(backend="gpu")[0], "compute_capability", "none"))


def _obstacle(q: Float[Array, "B N H D"], mask: Bool[Array, "B N"] | None, dropped: bool) -> str:
    """Return why cuDNN's kernel cannot serve, empty if it can."""
    width = q.shape[-1]
    if platform() != "cuda":
        return f"needs an NVIDIA GPU, and this is a {platform()}"
    major = _capability().split(".")[0]
    if not major.isdigit() or int(major) < OLDEST_CAPABILITY:
        return (
            f"needs an NVIDIA GPU of compute capability {OLDEST_CAPABILITY} or later, and this one has {_capability()}"
        )
    if q.dtype.name not in _HALF:
        return f"takes {' or '.join(_HALF)}, not {q.dtype.name}"
    if width % 8 or width > 128:
        return f"takes head widths that are multiples of 8 up to 128, not {width}"
    if mask is not None:
        return "takes no mask"
    if points_are_split(q.shape[:2]):
        return "needs all points of a sample on one device, but the mesh splits them"
    return "drops no softmax weights" if dropped else ""


def softmax_attention(
    q: Float[Array, "B M H D"],
    k: Float[Array, "B N H D"],
    v: Float[Array, "B N H D"],
    *,
    scale: float,
    mask: Bool[Array, "B N"] | None = None,
    drop_rate: float = 0.0,
    key: Key | None = None,
    out_dtype: DTypeLike | None = None,
) -> Float[Array, "B M H D"]:
    """Return `softmax_N(scale · q kᵀ) v` per head, over the keys that `mask` marks as real; stores all weights.

    The result has the dtype of v, or `out_dtype`.

    A sample without a real key gives zeros. Values at masked keys, NaN included, affect neither result nor gradients.
    With a random `key` a share `drop_rate` of the softmax weights is dropped.
    """
    if mask is not None:
        real = mask[:, :, None, None]
        k, v = jnp.where(real, k, 0), jnp.where(real, v, 0)
    logits = scale * jnp.einsum("bmhd,bnhd->bhmn", q, k, preferred_element_type=jnp.float32)
    if mask is not None:
        logits = jnp.where(mask[:, None, None, :], logits, -jnp.inf)
    peak = jax.lax.stop_gradient(logits.max(-1, keepdims=True))
    weights = jnp.exp(logits - jnp.where(jnp.isfinite(peak), peak, 0))
    total = weights.sum(-1, keepdims=True)
    weights = dropout(weights / jnp.where(total == 0, 1, total), drop_rate, key).astype(v.dtype)
    return jnp.einsum("bhmn,bnhd->bmhd", weights, v, preferred_element_type=jnp.float32).astype(out_dtype or v.dtype)
