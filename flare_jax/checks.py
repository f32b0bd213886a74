"""Checks of constructor arguments and inputs: each raises ValueError with the value and the remedy."""

import math
import numbers
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from runtime.words import did_you_mean

COMPUTE_DTYPES = ("float32", "bfloat16")


def check_integer(name: str, value: object, *, minimum: int = 1) -> int:
    """Return `value` if it is an integer of at least `minimum`."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"{name} is {value!r} but must be an integer of at least {minimum}; set {name} accordingly")
    return int(value)


def check_seed(name: str, value: object) -> int:
    """Return a seed of 32 bits: of a longer one, or one below zero, JAX drops bits, so that two seeds are one."""
    seed = check_integer(name, value, minimum=0)
    if seed >= 2**32:
        raise ValueError(
            f"{name} is {seed} but only the integers below {2**32} are different seeds; choose one of them"
        )
    return seed


def check_sizes(**sizes: object) -> None:
    """Raise unless every named value is an integer of at least 1."""
    for name, value in sizes.items():
        check_integer(name, value)


def check_positive(name: str, value: object) -> float:
    """Return `value` as a float if it is a positive finite number."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name} is {value!r} but must be a positive number; set {name} accordingly")
    return float(value)


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Raise unless `value` is one of `choices`; the message suggests the nearest name."""
    choices = list(choices)
    if value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"{name} is {value!r}{did_you_mean(value, choices)} but must be one of {listed}")


def check_head_dim(channel_dim: int, num_heads: int) -> int:
    """Return the head width `channel_dim / num_heads`; raise if the division leaves a remainder."""
    check_integer("channel_dim", channel_dim)
    check_integer("num_heads", num_heads)
    if channel_dim % num_heads:
        divisors = ", ".join(str(d) for d in range(1, channel_dim + 1) if channel_dim % d == 0)
        raise ValueError(
            f"num_heads {num_heads} does not divide channel_dim {channel_dim}; choose num_heads among {divisors}"
        )
    return channel_dim // num_heads


def scaled_width(name: str, channel_dim: int, ratio: float) -> int:
    """Return the hidden width `int(channel_dim · ratio)`; raise if it is not at least 1."""
    width = int(channel_dim * check_positive(name, ratio))
    if width < 1:
        raise ValueError(f"{name} {ratio} makes a hidden width below 1 of channel_dim {channel_dim}; increase {name}")
    return width


def check_dtype(dtype: DTypeLike) -> jnp.dtype:
    """Return the compute dtype, given as a dtype or its name; raise unless it is float32 or bfloat16."""
    try:
        resolved = jnp.dtype(dtype)
    except TypeError:
        resolved = None
    if resolved is None or resolved.name not in COMPUTE_DTYPES:
        raise ValueError(f"dtype is {dtype!r} but must be one of {', '.join(COMPUTE_DTYPES)}")
    return resolved


def check_points(x: jax.Array | np.ndarray, mask: jax.Array | np.ndarray | None, in_dim: int) -> None:
    """Raise unless `x` is a float array [B, N, in_dim] of one point or more and `mask`, if any, a bool array [B, N]."""
    _check_array("x", x, f"[B, N, {in_dim}]")
    if x.ndim != 3 or x.shape[-1] != in_dim:
        raise ValueError(
            f"x has shape {x.shape} but must be [B, N, {in_dim}]; "
            "pass batched points of that width or build the model with another in_dim"
        )
    if 0 in x.shape[:2]:
        raise ValueError(f"x has shape {x.shape}, so there is no point in it; pass at least one sample of one point")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x has dtype {x.dtype} but must be floating point; convert it to float32")
    if mask is None:
        return
    _check_array("mask", mask, "[B, N]")
    if mask.shape != x.shape[:2]:
        raise ValueError(f"mask has shape {mask.shape} but x has {x.shape}; the mask must be [B, N] = {x.shape[:2]}")
    if mask.dtype != jnp.bool_:
        raise ValueError(f"mask has dtype {mask.dtype} but must be bool, True for real points; compare it with 0 first")


def check_function_features(fx: jax.Array | None, shape: tuple[int, ...], fun_dim: int) -> None:
    """Raise unless `fx` is a float array [B, N, fun_dim] for points of this shape, or None if `fun_dim` is 0."""
    if fx is None and fun_dim:
        raise ValueError(f"fx is None but fun_dim is {fun_dim}; pass function features [B, N, {fun_dim}]")
    if fx is None:
        return
    _check_array("fx", fx, f"[B, N, {fun_dim}]")
    if not fun_dim:
        raise ValueError(f"fx has shape {fx.shape} but fun_dim is 0; build the model with fun_dim={fx.shape[-1]}")
    wanted = (*shape[:2], fun_dim)
    if fx.shape != wanted:
        raise ValueError(f"fx has shape {fx.shape} but must be [B, N, fun_dim] = {wanted}; pass features of all points")
    if not jnp.issubdtype(fx.dtype, jnp.floating):
        raise ValueError(f"fx has dtype {fx.dtype} but must be floating point; convert it to float32")


def check_uniforms(
    uniforms: Sequence[jax.Array] | None, shape: tuple[int, ...], *, num_blocks: int, heads: int, slices: int
) -> None:
    """Raise unless `uniforms`, if any, holds one array [B, H, N, M] per block for points of this shape."""
    if uniforms is None:
        return
    if len(uniforms) != num_blocks:
        raise ValueError(
            f"uniforms has {len(uniforms)} arrays but the model has {num_blocks} blocks; pass one per block"
        )
    wanted = (shape[0], heads, shape[1], slices)
    for i, values in enumerate(uniforms):
        if values.shape != wanted:
            raise ValueError(
                f"uniforms[{i}] has shape {values.shape} but must be [B, H, N, M] = {wanted}; "
                "draw one number for each head, point and slice"
            )


def _check_array(name: str, value: object, shape: str) -> None:
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise ValueError(
            f"{name} is a {type(value).__name__} but must be an array {shape}; convert it with numpy.asarray"
        )
