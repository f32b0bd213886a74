"""Checks of the arguments of `flare_mixer`, made while tracing; every failure is one sentence with its remedy."""

import jax
import jax.numpy as jnp

from kernels.flare_mixer.operands import Operands

DTYPES = ("float32", "bfloat16", "float16")


def _describe(x: jax.Array) -> str:
    return str(tuple(x.shape)).replace(" ", "")


def check_operands(operands: Operands) -> None:
    """Raise ValueError unless ranks, shapes and dtypes of all arrays fit together."""
    q, k, v, mask = operands.q, operands.k, operands.v, operands.mask
    _check_points("k", k)
    _check_points("v", v)
    _check_latents("q", q)
    if v.shape[:3] != k.shape[:3]:
        raise ValueError(
            f"v has shape {_describe(v)} and k has {_describe(k)}; give both the same sizes of batch, points and heads."
        )
    _check_pair("q", q, "k", k)
    if operands.separate:
        _check_decode(operands)
    if mask is not None and (mask.shape != k.shape[:2] or mask.dtype != jnp.bool_):
        raise ValueError(
            f"mask has shape {_describe(mask)} and dtype {mask.dtype}; give a bool array [B,N] of shape {k.shape[:2]}."
        )
    _check_dtypes(operands)


def _check_points(name: str, x: jax.Array) -> None:
    if x.ndim != 4 or 0 in x.shape:
        raise ValueError(f"{name} has shape {_describe(x)}; give a non-empty array [B,N,H,D].")


def _check_latents(name: str, x: jax.Array) -> None:
    if x.ndim not in (3, 4) or 0 in x.shape:
        raise ValueError(f"{name} has shape {_describe(x)}; give a non-empty array [H,M,D] or [B,H,M,D].")


def _check_pair(latents_name: str, latents: jax.Array, points_name: str, points: jax.Array) -> None:
    batch, _, heads, width = points.shape
    expected = (heads, latents.shape[-2], width)
    if latents.shape not in (expected, (batch, *expected)):
        raise ValueError(
            f"{latents_name} has shape {_describe(latents)}, which does not fit {points_name} {_describe(points)}; "
            f"give {latents_name} the shape [H,M,D] or [B,H,M,D] with B={batch}, H={heads}, D={width}."
        )


def _check_decode(operands: Operands) -> None:
    q, k, q_decode, k_decode = operands.q, operands.k, operands.q_decode, operands.k_decode
    _check_points("k_decode", k_decode)
    _check_latents("q_decode", q_decode)
    if k_decode.shape[:3] != k.shape[:3]:
        raise ValueError(
            f"k_decode has shape {_describe(k_decode)} and k has {_describe(k)}; give both the same sizes [B,N,H,.]."
        )
    _check_pair("q_decode", q_decode, "k_decode", k_decode)
    if q_decode.shape[-2] != q.shape[-2]:
        raise ValueError(
            f"q_decode has {q_decode.shape[-2]} latents and q has {q.shape[-2]}; give both the same number of latents."
        )


def _check_dtypes(operands: Operands) -> None:
    dtype = operands.k.dtype
    if dtype.name not in DTYPES:
        raise ValueError(f"k has dtype {dtype}; cast it to one of {', '.join(DTYPES)}.")
    for name in ("q", "v", "q_decode", "k_decode"):
        x = getattr(operands, name)
        if x is not None and x.dtype != dtype:
            raise ValueError(f"{name} has dtype {x.dtype} and k has {dtype}; cast them to one dtype.")
