"""Checks of the arguments of `triple_attention`, made while tracing; every failure is one sentence with its remedy."""

from typing import Any

import jax

from kernels.triple_attention.contractions import Operands

DTYPES = ("float32", "bfloat16", "float16")


def _describe(x: jax.Array) -> str:
    return str(tuple(x.shape)).replace(" ", "")


def check_operands(operands: Operands) -> None:
    """Raise ValueError unless ranks, shapes and dtypes of all arrays fit together."""
    for name, x in operands._asdict().items():
        if x.ndim != 4 or 0 in x.shape:
            raise ValueError(f"{name} has shape {_describe(x)}; give a non-empty array [B,N,H,D].")
    for name in ("q2", "k1", "k2"):
        x = getattr(operands, name)
        if x.shape != operands.q1.shape:
            raise ValueError(
                f"{name} has shape {_describe(x)} and q1 has {_describe(operands.q1)}; "
                "give q1, q2, k1 and k2 one shape."
            )
    if operands.v.shape[:3] != operands.q1.shape[:3]:
        raise ValueError(
            f"v has shape {_describe(operands.v)} and q1 has {_describe(operands.q1)}; "
            "give both the same sizes of batch, points and heads."
        )
    _check_dtypes(operands)


def _check_dtypes(operands: Operands) -> None:
    dtype = operands.q1.dtype
    if dtype.name not in DTYPES:
        raise ValueError(f"q1 has dtype {dtype}; cast it to one of {', '.join(DTYPES)}.")
    for name, x in operands._asdict().items():
        if x.dtype != dtype:
            raise ValueError(f"{name} has dtype {x.dtype} and q1 has {dtype}; cast them to one dtype.")


def check_n_total(n_total: Any) -> int:
    """Return `n_total`, or raise ValueError unless it is a positive Python integer."""
    if isinstance(n_total, bool) or not isinstance(n_total, int) or n_total < 1:
        raise ValueError(
            f"n_total is {n_total!r}; give the number of points as a positive Python integer, or None for N."
        )
    return n_total
