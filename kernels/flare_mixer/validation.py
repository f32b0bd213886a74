"""Checks of the arguments of `flare_mixer`, made while tracing; every failure is one sentence with its remedy."""

from kernels._checks import check_are_arrays, check_dtypes, check_latents, check_mask, check_points, check_same_points
from kernels.flare_mixer.operands import Operands


def check_operands(operands: Operands) -> None:
    """Raise ValueError unless ranks, shapes and dtypes of all arrays fit together."""
    q, k, v = operands.q, operands.k, operands.v
    check_are_arrays(operands._asdict(), absent=("q_decode", "k_decode", "mask", "largest_key"))
    check_points("k", k)
    check_points("v", v)
    check_same_points("v", v, "k", k)
    check_latents("q", q, "k", k)
    if operands.separate:
        _check_decode(operands)
    check_mask(operands.mask, k)
    check_dtypes("k", k, q=q, v=v, q_decode=operands.q_decode, k_decode=operands.k_decode)


def _check_decode(operands: Operands) -> None:
    q, k, q_decode, k_decode = operands.q, operands.k, operands.q_decode, operands.k_decode
    check_points("k_decode", k_decode)
    check_same_points("k_decode", k_decode, "k", k)
    check_latents("q_decode", q_decode, "k_decode", k_decode)
    if q_decode.shape[-2] != q.shape[-2]:
        raise ValueError(
            f"q_decode has {q_decode.shape[-2]} latents and q has {q.shape[-2]}; give both the same number of latents."
        )
