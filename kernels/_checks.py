"""Checks of arguments, made while tracing; every failure is one ValueError sentence with its remedy."""

import math
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

DTYPES = ("float32", "bfloat16", "float16")


def describe(x: jax.Array | tuple[int, ...]) -> str:
    """Return the shape of `x` as text without spaces."""
    return str(tuple(x if isinstance(x, tuple) else x.shape)).replace(" ", "")


def check_are_arrays(arrays: dict[str, Any], absent: Collection[str] = ()) -> None:
    """Raise ValueError unless all are arrays, by the names of arguments; those named `absent` may be None."""
    for name, x in arrays.items():
        if x is None and name in absent:
            continue
        if not (hasattr(x, "shape") and hasattr(x, "dtype")):
            given = "None" if x is None else f"a {type(x).__name__}"
            raise ValueError(f"{name} is {given}; give an array, such as those of jax.numpy.")


def check_points(name: str, x: jax.Array) -> None:
    """Raise ValueError unless `x` is a non-empty array `[B, N, H, D]`."""
    if x.ndim != 4 or 0 in x.shape:
        raise ValueError(f"{name} has shape {describe(x)}; give a non-empty array [B,N,H,D].")


def check_same_points(name: str, x: jax.Array, like_name: str, like: jax.Array) -> None:
    """Raise ValueError unless two arrays of points have the same batch, points and heads."""
    if x.shape[:3] != like.shape[:3]:
        raise ValueError(
            f"{name} has shape {describe(x)} and {like_name} has {describe(like)}; "
            "give both the same sizes of batch, points and heads."
        )


def check_latents(name: str, x: jax.Array, points_name: str, points: jax.Array) -> None:
    """Raise ValueError unless `x` is `[H, M, D]` or `[B, H, M, D]` and fits points `[B, N, H, D]`."""
    if x.ndim not in (3, 4) or 0 in x.shape:
        raise ValueError(f"{name} has shape {describe(x)}; give a non-empty array [H,M,D] or [B,H,M,D].")
    batch, _, heads, width = points.shape
    expected = (heads, x.shape[-2], width)
    if x.shape not in (expected, (batch, *expected)):
        raise ValueError(
            f"{name} has shape {describe(x)}, which does not fit {points_name} {describe(points)}; "
            f"give {name} the shape [H,M,D] or [B,H,M,D] with B={batch}, H={heads}, D={width}."
        )


def check_mask(mask: jax.Array | None, points: jax.Array) -> None:
    """Raise ValueError unless the mask is absent or a bool array `[B, N]`."""
    if mask is not None and (mask.shape != points.shape[:2] or mask.dtype != jnp.bool_):
        raise ValueError(
            f"mask has shape {describe(mask)} and dtype {mask.dtype}; "
            f"give a bool array [B,N] of shape {points.shape[:2]}."
        )


def check_dtypes(name: str, x: jax.Array, **others: jax.Array | None) -> None:
    """Raise ValueError unless the dtype of `x` is one of DTYPES and that of all `others`."""
    if x.dtype.name not in DTYPES:
        raise ValueError(f"{name} has dtype {x.dtype}; cast it to one of {', '.join(DTYPES)}.")
    for other, y in others.items():
        if y is not None and y.dtype != x.dtype:
            raise ValueError(f"{other} has dtype {y.dtype} and {name} has {x.dtype}; cast them to one dtype.")


def check_axis(axis_name: str | None, operation: str) -> None:
    """Raise ValueError unless `axis_name` is None or a mesh axis of the `jax.shard_map` around the call."""
    if axis_name is None:
        return
    try:
        jax.lax.axis_size(axis_name)
    except NameError:
        raise ValueError(
            f"axis_name is {axis_name!r}, which is no mesh axis here; call {operation} in a shard_map over that axis."
        ) from None


def as_largest(largest: Any, name: str = "largest_key") -> jax.Array | None:
    """Return a bound of keys as a float32 scalar, or raise ValueError unless it is a non-negative number."""
    if largest is None:
        return None
    if isinstance(largest, int | float):
        if not (math.isfinite(largest) and largest >= 0):
            raise ValueError(f"{name} is {largest!r}; give a finite number that the norm of no key exceeds, or None.")
        return jnp.float32(largest)
    if not hasattr(largest, "dtype"):
        raise ValueError(f"{name} is {largest!r}; give a finite number that the norm of no key exceeds, or None.")
    value = jnp.asarray(largest, jnp.float32)
    if value.ndim:
        raise ValueError(f"{name} has shape {describe(value)}; give one number for all keys, or None.")
    return value


def check_precision(precision: Any) -> lax.Precision | None:
    """Return the precision to compute with, None where only XLA knows what the configured one means."""
    configured = jax.config.jax_default_matmul_precision if precision is None else precision
    try:
        return lax.Precision("default" if configured is None else configured)
    except ValueError:
        if precision is None:
            return None
    raise ValueError(f"precision is {precision!r}; give 'default', 'high', 'highest' or None for the configured one.")


def check_scale(scale: Any, remedy: str = "such as 1.0 or D ** -0.5") -> float:
    """Return `scale` as a float, or raise ValueError unless it is a positive finite Python number."""
    if isinstance(scale, jax.core.Tracer):
        raise ValueError("scale is a traced value; give a Python number, or multiply q by the traced factor instead.")
    try:
        value = math.nan if isinstance(scale, str) else float(scale)
    except (TypeError, ValueError):
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"scale is {scale!r}; give a positive finite number, {remedy}.")
    return value
