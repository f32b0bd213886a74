"""Checks of the arguments, made while tracing; every failure is one sentence with its remedy."""

import jax
import jax.numpy as jnp

from kernels._checks import check_are_arrays, check_dtypes, describe
from kernels.causal_flare.operands import Operands, State

MOST_LATENTS = 2048
_OPTIONAL = ("q_decode", "k_decode", "mask", "log_decay")


def check_operands(operands: Operands, token: bool = False) -> None:
    """Raise ValueError unless ranks, shapes and dtypes of all arrays fit together.

    With `token` the caller gave arrays without the axis N, and the sentences name their shapes.
    """
    check_are_arrays(operands._asdict(), absent=_OPTIONAL)
    names = {"axes": "[B,H,D]" if token else "[B,N,H,D]", "common": "[B,H,.]" if token else "[B,N,H,.]"}

    def shape(x: jax.Array) -> str:
        return describe((x.shape[0], *x.shape[2:]) if token else x.shape)

    for name in ("k", "v", "k_decode"):
        x = getattr(operands, name)
        if x is not None and (x.ndim != 4 or 0 in x.shape):
            raise ValueError(f"{name} has shape {shape(x)}; give a non-empty array {names['axes']}.")
        if x is not None and x.shape[:3] != operands.k.shape[:3]:
            raise ValueError(
                f"{name} has shape {shape(x)} and k has {shape(operands.k)}; "
                f"give both the same sizes {names['common']}."
            )
    _check_latents("q", operands.q, "k", operands.k)
    if operands.separate:
        _check_latents("q_decode", operands.q_decode, "k_decode", operands.k_decode)
        if operands.q_decode.shape[1] != operands.q.shape[1]:
            raise ValueError(
                f"q_decode has {operands.q_decode.shape[1]} latents and q has {operands.q.shape[1]}; "
                "give both the same number of latents."
            )
    _check_mask(operands, token)
    _check_decay(operands, token)
    names = ("q", "v", "q_decode", "k_decode")
    check_dtypes("k", operands.k, **{name: getattr(operands, name) for name in names})


def _check_latents(name: str, q: jax.Array, tokens_name: str, tokens: jax.Array) -> None:
    heads, width = tokens.shape[2:]
    if q.ndim != 3 or 0 in q.shape or (q.shape[0], q.shape[2]) != (heads, width):
        raise ValueError(
            f"{name} has shape {describe(q.shape)}, which does not fit {tokens_name}; "
            f"give a non-empty array [H,M,D] with H={heads} and D={width}."
        )
    if q.shape[1] > MOST_LATENTS:
        raise ValueError(f"{name} has {q.shape[1]} latents; give at most {MOST_LATENTS}.")


def _check_mask(operands: Operands, token: bool) -> None:
    mask = operands.mask
    if mask is None:
        return
    expected = operands.k.shape[:2]
    if mask.shape != expected or mask.dtype != jnp.bool_:
        given = mask.shape[:1] + mask.shape[2:] if token else mask.shape
        raise ValueError(
            f"mask has shape {describe(given)} and dtype {mask.dtype}; "
            f"give a bool array of shape {describe(expected[:1] if token else expected)}."
        )


def _check_decay(operands: Operands, token: bool) -> None:
    decay = operands.log_decay
    if decay is None:
        return
    expected = operands.k.shape[:3]
    if decay.shape != expected or decay.dtype != jnp.float32:
        given, wanted = (tuple(x[:1] + x[2:] if token else x) for x in (decay.shape, expected))
        raise ValueError(
            f"log_decay has shape {describe(given)} and dtype {decay.dtype}; "
            f"give a float32 array of shape {describe(wanted)}, logarithms of factors of at most 1."
        )


def check_state(state: State, operands: Operands) -> None:
    """Raise ValueError unless the state is one of these operands' sizes, float32."""
    check_are_arrays({f"the state's {name}": getattr(state, name, None) for name in State._fields})
    batch, _, heads, channels = operands.v.shape
    shape = (batch, heads, operands.q.shape[1])
    for name, expected in (("maximum", shape), ("mass", shape), ("total", (*shape, channels))):
        x = getattr(state, name)
        if x.shape != expected or x.dtype != jnp.float32:
            raise ValueError(
                f"the state's {name} has shape {describe(x.shape)} and dtype {x.dtype}; "
                f"give a float32 array of shape {describe(expected)}, as init_state makes it."
            )


def check_block(block: int, log_decay: jax.Array | None, axis_name: str | None) -> None:
    """Raise ValueError unless `block` is a positive integer, and 1 with forgetting or tokens split over a mesh axis."""
    if not isinstance(block, int) or isinstance(block, bool) or block < 1:
        raise ValueError(f"block is {block!r}; give a positive number of tokens.")
    if block > 1 and log_decay is not None:
        raise ValueError(f"block is {block} and log_decay is given; blocks do not forget, leave one of them out.")
    if block > 1 and axis_name is not None:
        raise ValueError(f"block is {block} and axis_name {axis_name!r}; blocks are not split, leave one of them out.")


def check_sizes(**sizes: int) -> None:
    """Raise ValueError unless all sizes are positive."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {size}; give a positive number.")
