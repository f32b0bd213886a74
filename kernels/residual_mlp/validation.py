"""Checks of the arguments, made while tracing; every failure is one sentence with its remedy."""

import math
from collections.abc import Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp

from kernels._checks import check_are_arrays
from kernels.residual_mlp.operands import Activation, Branch, HeadNorm, Norm, NormKind, Operands, Projection


def check_operands(operands: Operands) -> None:
    """Raise ValueError unless the shapes and dtypes of all arrays fit together."""
    x, projection = operands.x, operands.projection
    check_are_arrays({"x": x})
    if x.ndim < 1 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x has shape {x.shape} and dtype {x.dtype}; give a floating point array [..., C_in].")
    width = x.shape[-1]
    if projection is not None:
        width = _check_projection(x, projection)
    if operands.norm is not None:
        _check_norm(operands.norm, width)
    for index, branch in enumerate(operands.branches):
        _check_branch(f" of branch {index}" if len(operands.branches) > 1 else "", branch, width)


def check_branches(branches: Sequence[Any]) -> tuple[Branch, ...]:
    """Return the branches as `Branch` tuples, or raise ValueError unless there are pairs of sequences."""
    if not branches:
        raise ValueError("branches is empty; give at least one pair (weights, biases).")
    for index, branch in enumerate(branches):
        if not isinstance(branch, Sequence) or len(branch) != 2:
            raise ValueError(f"branch {index} is a {type(branch).__name__}; give a pair (weights, biases).")
    return tuple(Branch(tuple(weights), tuple(biases)) for weights, biases in branches)


def check_head_norms(norms: Sequence[HeadNorm | None] | None, branches: Sequence[Branch]) -> list[HeadNorm | None]:
    """Return one norm, or None, per branch, or raise ValueError where they do not fit the branches."""
    if norms is None:
        return [None] * len(branches)
    if len(norms) != len(branches):
        raise ValueError(
            f"there are {len(norms)} head_norms for {len(branches)} branches; give one, or None, for each."
        )
    for index, (norm, branch) in enumerate(zip(norms, branches, strict=True)):
        if norm is None:
            continue
        width = branch.weights[-1].shape[-1] if branch.weights else 0
        if norm.heads < 1 or width % norm.heads:
            raise ValueError(
                f"head_norms[{index}] has {norm.heads} heads for a result of width {width}; give a divisor of it."
            )
        _check_norm(norm, width // norm.heads, f"head_norms[{index}]")
    return list(norms)


def check_outer_residual(operands: Operands) -> None:
    """Raise ValueError unless the result can be added to the stream."""
    stream = operands.x.shape[-1] if operands.projection is None else operands.projection.weight.shape[1]
    outputs = operands.branches[0].weights[-1].shape[1]
    if outputs != stream:
        raise ValueError(
            f"outer_residual adds an input of width {stream} to a result of width {outputs}; "
            "make the last weight as wide as the input or set outer_residual=False."
        )


def check_activation(activation: Any) -> None:
    """Raise ValueError for an unknown activation."""
    if activation not in get_args(Activation):
        raise ValueError(f"activation is {activation!r}; give one of {', '.join(get_args(Activation))}.")


def _check_projection(x: jax.Array, projection: Projection) -> int:
    weight, bias, skip = projection.weight, projection.bias, projection.skip
    check_are_arrays({"projection.weight": weight, "projection.bias": bias, "projection.skip": skip})
    if weight.ndim != 2 or weight.shape[0] != x.shape[-1]:
        raise ValueError(
            f"projection.weight has shape {weight.shape} and x has {x.shape}; give a weight [{x.shape[-1]}, C]."
        )
    width = weight.shape[1]
    if bias.shape != (width,):
        raise ValueError(f"projection.bias has shape {bias.shape}; give ({width},) to fit its weight {weight.shape}.")
    if skip.shape != (*x.shape[:-1], width) or skip.dtype != x.dtype:
        raise ValueError(
            f"projection.skip has shape {skip.shape} and dtype {skip.dtype}; "
            f"give {(*x.shape[:-1], width)} and {x.dtype} to fit x and the weight."
        )
    return width


def _check_norm(norm: Norm, width: int, called: str = "norm") -> None:
    if norm.kind not in get_args(NormKind):
        raise ValueError(f"{called}.kind is {norm.kind!r}; give one of {', '.join(get_args(NormKind))}.")
    if not (math.isfinite(norm.epsilon) and norm.epsilon > 0):
        raise ValueError(f"{called}.epsilon is {norm.epsilon}; give a positive number, such as 1e-5.")
    for name, vector in (("scale", norm.scale), ("bias", norm.bias)):
        if vector is not None and vector.shape != (width,):
            raise ValueError(
                f"{called}.{name} has shape {vector.shape}; give ({width},), the width that is normalised."
            )


def _check_branch(where: str, branch: Branch, width: int) -> None:
    weights, biases = branch.weights, branch.biases
    if not weights or len(weights) != len(biases):
        raise ValueError(
            f"there are {len(weights)} weights and {len(biases)} biases{where}; "
            "give at least one weight, and one bias for each."
        )
    for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        check_are_arrays({f"weight {index}{where}": weight, f"bias {index}{where}": bias})
        if weight.ndim != 2 or weight.shape[0] != width:
            before = f"weight {index - 1} makes" if index else "x has"
            raise ValueError(
                f"weight {index}{where} has shape {weight.shape}, but {before} the width {width}; "
                f"give a weight [{width}, C_out], or x and weights that fit together."
            )
        width = weight.shape[1]
        if bias.shape != (width,):
            raise ValueError(
                f"bias {index}{where} has shape {bias.shape}; give ({width},) to fit weight {weight.shape}."
            )
        if 0 < index < len(weights) - 1 and weight.shape[0] != width:
            raise ValueError(
                f"weight {index}{where} has shape {weight.shape}; inner weights are residual, make it square."
            )
