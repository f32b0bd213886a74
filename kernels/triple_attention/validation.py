"""Checks of the arguments of `triple_attention`, made while tracing; every failure is one sentence with its remedy."""

from typing import Any

from kernels._checks import check_are_arrays, check_dtypes, check_points, check_same_points, describe
from kernels.triple_attention.contractions import Operands


def check_operands(operands: Operands) -> None:
    """Raise ValueError unless ranks, shapes and dtypes of all arrays fit together."""
    check_are_arrays(operands._asdict())
    for name, x in operands._asdict().items():
        check_points(name, x)
    for name in ("q2", "k1", "k2"):
        x = getattr(operands, name)
        if x.shape != operands.q1.shape:
            raise ValueError(
                f"{name} has shape {describe(x)} and q1 has {describe(operands.q1)}; give q1, q2, k1 and k2 one shape."
            )
    check_same_points("v", operands.v, "q1", operands.q1)
    others = operands._asdict()
    check_dtypes("q1", others.pop("q1"), **others)


def check_n_total(n_total: Any) -> int:
    """Return `n_total`, or raise ValueError unless it is a positive Python integer."""
    if isinstance(n_total, bool) or not isinstance(n_total, int) or n_total < 1:
        raise ValueError(
            f"n_total is {n_total!r}; give the number of points as a positive Python integer, or None for N."
        )
    return n_total
