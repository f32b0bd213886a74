"""Checks of the arguments of causal linear attention; every failure is one sentence with its remedy."""

import jax
import jax.numpy as jnp

from kernels._checks import (
    check_are_arrays,
    check_dtypes,
    check_mask,
    check_points,
    check_same_points,
    describe,
)


def check_arrays(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None) -> None:
    """Raise ValueError unless ranks, shapes and dtypes of the token arrays fit together."""
    check_are_arrays({"q": q, "k": k, "v": v, "mask": mask}, absent=("mask",))
    for name, x in (("q", q), ("k", k), ("v", v)):
        check_points(name, x)
    if k.shape != q.shape:
        raise ValueError(f"k has shape {describe(k)} and q has {describe(q)}; give both the same shape [B,N,H,D].")
    check_same_points("v", v, "q", q)
    check_dtypes("q", q, k=k, v=v)
    check_mask(mask, q)


def check_state(state: jax.Array | None, q: jax.Array, channels: int) -> None:
    """Raise ValueError unless `initial_state` is float32 of shape `[B, H, D, channels]` or absent."""
    if state is None:
        return
    check_are_arrays({"initial_state": state})
    batch, _, heads, width = q.shape
    if state.shape != (batch, heads, width, channels) or state.dtype != jnp.float32:
        raise ValueError(
            f"initial_state has shape {describe(state)} and dtype {state.dtype}; "
            f"give a float32 array of shape ({batch},{heads},{width},{channels})."
        )
