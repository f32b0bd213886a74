"""Moving data outside of jit without a program for every shape, which takes JAX 0.10 ten milliseconds to compile."""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np


def move_on_host() -> None:
    """Let JAX 0.10 copy, convert, broadcast, reshape, cut and join arrays by NumPy; call it once JAX is imported.

    What is traced is not concerned, nor arrays of several devices, nor what computes: these are operations that give
    the numbers which they are given. Another version of JAX is left as it is.
    """
    if not version("jax").startswith("0.10."):
        return
    import jax
    from jax._src.lax import lax, slicing

    def copy(x: Any) -> jax.Array:
        # Of an array a copy of its own, which nobody changes: on the CPU JAX may use its memory.
        return x if isinstance(x, jax.Array) else jax.device_put(np.array(x) if isinstance(x, np.ndarray) else x)

    lax.stage_p.def_impl(copy)
    for primitive, move in (
        (lax.broadcast_in_dim_p, _broadcast),
        (lax.convert_element_type_p, _convert),
        (lax.reshape_p, _reshape),
        (lax.squeeze_p, _squeeze),
        (lax.transpose_p, _transpose),
        (lax.concatenate_p, _concatenate),
        (slicing.slice_p, _slice),
        (slicing.dynamic_slice_p, _dynamic_slice),
    ):
        primitive.def_impl(_on_host(primitive.impl, move))


def _on_host(otherwise: Callable[..., Any], move: Callable[..., np.ndarray | None]) -> Callable[..., Any]:
    """Return the operation by NumPy where its operands are plain arrays, and as JAX has it `otherwise`."""
    import jax

    def plain(x: Any) -> bool:
        if isinstance(x, np.ndarray | np.generic):
            return True
        # Weak types and the choice of a device are passed on by JAX.
        return isinstance(x, jax.Array) and isinstance(x.dtype, np.dtype) and not (x.weak_type or x.committed)

    def operation(*operands: Any, **parameters: Any) -> Any:
        if all(map(plain, operands)) and parameters.get("sharding") is None:
            result = move(*map(np.asarray, operands), **parameters)
            # Numbers of 64 bits, which are there outside of `enable_x64` too, would be put on a device in 32.
            if result is not None and jax.dtypes.canonicalize_dtype(result.dtype) == result.dtype:
                return jax.device_put(np.array(result, order="C"))
        return otherwise(*operands, **parameters)

    return operation


def _broadcast(
    x: np.ndarray, *sizes: np.ndarray, shape: tuple[int, ...], broadcast_dimensions: tuple[int, ...], sharding: None
) -> np.ndarray | None:
    del sharding
    if sizes:
        return None
    aligned = [1] * len(shape)
    for axis, size in zip(broadcast_dimensions, x.shape, strict=True):
        aligned[axis] = size
    return np.broadcast_to(x.reshape(aligned), shape)


def _convert(x: np.ndarray, *, new_dtype: np.dtype, weak_type: bool, sharding: None) -> np.ndarray | None:
    del sharding
    exact = x.dtype.kind in "biu" or (x.dtype == "bfloat16" and new_dtype == np.float32)
    return x.astype(new_dtype) if exact and not weak_type else None


def _reshape(
    x: np.ndarray, *sizes: np.ndarray, new_sizes: tuple[int, ...], dimensions: tuple[int, ...] | None, sharding: None
) -> np.ndarray | None:
    del sharding
    return None if sizes or dimensions is not None else x.reshape(new_sizes)


def _squeeze(x: np.ndarray, *, dimensions: tuple[int, ...]) -> np.ndarray:
    return np.squeeze(x, dimensions)


def _transpose(x: np.ndarray, *, permutation: tuple[int, ...]) -> np.ndarray:
    return np.transpose(x, permutation)


def _concatenate(*parts: np.ndarray, dimension: int) -> np.ndarray:
    return np.concatenate(parts, dimension)


def _slice(
    x: np.ndarray, *, start_indices: tuple[int, ...], limit_indices: tuple[int, ...], strides: tuple[int, ...] | None
) -> np.ndarray:
    steps = strides or (1,) * x.ndim
    return x[tuple(map(slice, start_indices, limit_indices, steps))]


def _dynamic_slice(x: np.ndarray, *starts: np.ndarray, slice_sizes: tuple[int, ...]) -> np.ndarray | None:
    if len(starts) != x.ndim:
        return None
    # A part that would reach beyond the end is moved to it.
    first = [min(max(int(start), 0), size - cut) for start, size, cut in zip(starts, x.shape, slice_sizes, strict=True)]
    return x[tuple(slice(start, start + cut) for start, cut in zip(first, slice_sizes, strict=True))]
