"""Masked loads, stores and products of the Pallas kernels."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from kernels._pallas import interpreted


def _inside(shape: tuple[int, int], extent: tuple[Any, Any]) -> jax.Array | None:
    """Return which elements lie in the first `extent` rows and columns, None if all do."""
    mask = None
    for axis, (size, left) in enumerate(zip(shape, extent, strict=True)):
        if isinstance(left, int) and left >= size:
            continue
        inside = jax.lax.broadcasted_iota(jnp.int32, shape, axis) < left
        mask = inside if mask is None else mask & inside
    return mask


def _view(ref: Any, start: tuple[Any, Any], shape: tuple[int, int]) -> Any:
    return ref.at[pl.ds(start[0], shape[0]), pl.ds(start[1], shape[1])]


def load(ref: Any, start: tuple[Any, Any], shape: tuple[int, int], extent: tuple[Any, Any]) -> jax.Array:
    """Load a tile of `shape` from `start` on, with zeros beyond its first `extent` rows and columns."""
    mask = _inside(shape, extent)
    view = _view(ref, start, shape)
    return plt.load(view) if mask is None else plt.load(view, mask=mask, other=0.0)


def store(ref: Any, start: tuple[Any, Any], value: jax.Array, extent: tuple[Any, Any]) -> None:
    """Store the first `extent` rows and columns of a tile from `start` on."""
    plt.store(_view(ref, start, value.shape), value.astype(ref.dtype), mask=_inside(value.shape, extent))


def dot(a: jax.Array, b: jax.Array, contract: tuple[int, int], exact: str) -> jax.Array:
    """Multiply two tiles over axes `contract` with float32 sums; float32 tiles never as plain TF32.

    On the tensor cores a float32 tile is split into two TF32 parts, whose three largest products have float32 accuracy;
    `exact="ieee"` asks for fused multiply-adds on the ordinary cores instead.
    """
    if interpreted():  # a CPU has no products of bfloat16 with float32 sums; in float32 they are exact
        a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    precision = jax.lax.Precision.HIGHEST
    if a.dtype == jnp.float32 and exact == "tf32x3" and not interpreted():
        precision = jax.lax.DotAlgorithmPreset.TF32_TF32_F32_X3
    numbers = (((contract[0],), (contract[1],)), ((), ()))
    return jax.lax.dot_general(a, b, numbers, precision=precision, preferred_element_type=jnp.float32)
