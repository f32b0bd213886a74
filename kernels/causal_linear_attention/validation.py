"""Checks of the arguments, made while tracing; every failure is one sentence with its remedy."""

import jax
import jax.numpy as jnp

DTYPES = ("float32", "bfloat16", "float16")


def describe(x: jax.Array) -> str:
    """Return the shape of `x` as text without spaces."""
    return str(tuple(x.shape)).replace(" ", "")


def check_arrays(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None) -> None:
    """Raise ValueError unless ranks, shapes and dtypes of the token arrays fit together."""
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.ndim != 4 or 0 in x.shape:
            raise ValueError(f"{name} has shape {describe(x)}; give a non-empty array [B,N,H,D].")
    if k.shape != q.shape:
        raise ValueError(f"k has shape {describe(k)} and q has {describe(q)}; give both the same shape [B,N,H,D].")
    if v.shape[:3] != q.shape[:3]:
        raise ValueError(
            f"v has shape {describe(v)} and q has {describe(q)}; give both the same sizes of batch, points and heads."
        )
    if q.dtype.name not in DTYPES:
        raise ValueError(f"q has dtype {q.dtype}; cast it to one of {', '.join(DTYPES)}.")
    for name, x in (("k", k), ("v", v)):
        if x.dtype != q.dtype:
            raise ValueError(f"{name} has dtype {x.dtype} and q has {q.dtype}; cast them to one dtype.")
    if mask is not None and (mask.shape != q.shape[:2] or mask.dtype != jnp.bool_):
        raise ValueError(
            f"mask has shape {describe(mask)} and dtype {mask.dtype}; give a bool array [B,N] of shape {q.shape[:2]}."
        )


def check_state(state: jax.Array | None, q: jax.Array, channels: int) -> None:
    """Raise ValueError unless `initial_state` is float32 of shape `[B, H, D, channels]` or absent."""
    if state is None:
        return
    batch, _, heads, width = q.shape
    if state.shape != (batch, heads, width, channels) or state.dtype != jnp.float32:
        raise ValueError(
            f"initial_state has shape {describe(state)} and dtype {state.dtype}; "
            f"give a float32 array of shape ({batch},{heads},{width},{channels})."
        )
