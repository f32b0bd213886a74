"""The public entries: check the arguments, choose the implementation, call it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from kernels._checks import check_precision
from kernels._implementation import Request
from kernels._products import copies_side_by_side
from kernels._sharding import vary_alike
from kernels.residual_mlp import table
from kernels.residual_mlp.fused import Call, apply
from kernels.residual_mlp.operands import (
    Activation,
    Branch,
    HeadNorm,
    Norm,
    Operands,
    Projection,
    Structure,
    chain_layers,
)
from kernels.residual_mlp.reference import normalize_heads, residual_mlp_reference
from kernels.residual_mlp.validation import (
    check_activation,
    check_branches,
    check_head_norms,
    check_operands,
    check_outer_residual,
)


def residual_mlp(
    x: Float[Array, "*B C_in"],
    weights: Sequence[Float[Array, "..."]],
    biases: Sequence[Float[Array, "..."]],
    *,
    activation: Activation = "gelu_tanh",
    residual_in: bool,
    residual_out: bool,
    norm: Norm | None = None,
    outer_residual: bool = False,
    projection: Projection | None = None,
    implementation: str | None = None,
    precision: str | lax.Precision | None = None,
) -> Float[Array, "*B C_out"]:
    """Apply a residual MLP, with the norm before it and the residual addition around it if wanted, in one kernel.

    `weights` are [C_in, C_hidden], any number of [C_hidden, C_hidden] and [C_hidden, C_out], `biases` fit them:
    u = act(x W + b), plus x with `residual_in`; then u + act(u W + b) for every inner layer; then u W + b, plus u with
    `residual_out`. A residual between different widths is off. One weight alone is a linear layer, with x added if
    both flags are set. Activations are "gelu_tanh", "gelu_erf" and "silu".

    `projection` first replaces x by a = skip + x W + b; `norm` feeds norm(a) to the MLP; `outer_residual` adds a to
    the result: with all three the call is the second half of a FLARE block. Without them a is x.

    The products run in the dtype of x with float32 accumulation, float32 ones in the given or configured `precision`
    (below "highest" they use TF32 on the GPU); everything else is float32. Parameters keep their own dtype.
    `implementation` is "reference" or "pallas" (float32 and bfloat16, widths up to 256); None chooses by device, dtype
    and shape. Returns the dtype of x. Inside `jax.shard_map` the op works on the local rows.

    Raises ValueError for arguments that do not fit together, and for a named implementation that cannot serve them.

    Source: FLARE, arXiv 2508.12594; the maths of both directions is in README.md.
    """
    operands = Operands(x, projection, norm, check_branches([(weights, biases)]))
    (result,) = _apply(operands, activation, residual_in, residual_out, outer_residual, implementation, precision)
    return result


def residual_mlp_branches(
    x: Float[Array, "*B C_in"],
    branches: Sequence[tuple[Sequence[Float[Array, "..."]], Sequence[Float[Array, "..."]]]],
    *,
    activation: Activation = "gelu_tanh",
    residual_in: bool,
    residual_out: bool,
    norm: Norm | None = None,
    head_norms: Sequence[HeadNorm | None] | None = None,
    implementation: str | None = None,
    precision: str | lax.Precision | None = None,
) -> tuple[Float[Array, "*B _"], ...]:
    """Apply several residual MLPs to one input, normalised once by `norm` if given, in one kernel.

    `branches` are pairs (weights, biases) of any depths and widths, such as a FLARE block's key and value projections;
    `head_norms` has the norm of each result, or None where it has none. Everything else is as in `residual_mlp`.
    Returns one array per branch.

    Raises ValueError as `residual_mlp` does.
    """
    pairs = check_branches(branches)
    check_operands(Operands(x, None, norm, pairs))
    norms = check_head_norms(head_norms, pairs)
    inside = [
        norm if norm is not None and _in_kernel(norm, pair) else None for norm, pair in zip(norms, pairs, strict=True)
    ]
    pairs = tuple(pair._replace(head_norm=_of_channels(norm)) for pair, norm in zip(pairs, inside, strict=True))
    operands = Operands(x, None, norm, pairs)
    results = _apply(operands, activation, residual_in, residual_out, False, implementation, precision)
    return tuple(
        y if norm is None or norm is done else normalize_heads(y, _of_channels(norm))
        for y, norm, done in zip(results, norms, inside, strict=True)
    )


def _in_kernel(norm: HeadNorm, branch: Branch) -> bool:
    """Return whether the kernels can cut a tile into the heads of this norm: their width is a power of two."""
    width = branch.weights[-1].shape[1] // norm.heads
    return width & (width - 1) == 0 and width <= table.LARGEST_HEAD


def _of_channels(norm: HeadNorm | None) -> HeadNorm | None:
    """Return the norm with one factor and one summand for every channel of all heads."""
    if norm is None:
        return None

    def tiled(vector: Any) -> Any:
        return None if vector is None else jnp.tile(vector, norm.heads)

    return replace(norm, scale=tiled(norm.scale), bias=tiled(norm.bias))


def _apply(
    operands: Operands,
    activation: Activation,
    residual_in: bool,
    residual_out: bool,
    outer_residual: bool,
    implementation: str | None,
    precision: str | lax.Precision | None,
) -> tuple[jax.Array, ...]:
    check_activation(activation)
    check_operands(operands)
    if outer_residual:
        check_outer_residual(operands)
    resolved = check_precision(precision)
    structure = Structure(
        inputs=operands.x.shape[-1],
        stream=operands.x.shape[-1] if operands.projection is None else operands.projection.weight.shape[1],
        branches=tuple(
            chain_layers(branch, residual_in=residual_in, residual_out=residual_out) for branch in operands.branches
        ),
        activation=activation,
        outer_residual=outer_residual,
    )
    reason = table.obstacle(structure, operands, resolved)
    if reason is not None and implementation == "pallas":
        raise ValueError(f"implementation 'pallas' cannot serve {reason}; use 'reference' or None.")
    if implementation is None and (reason is not None or table.too_deep(structure)):
        implementation = "reference"
    request = Request("float32", 1) if reason is not None else table.request_for(structure, operands, resolved)
    selection = table.OPERATION.resolve(implementation, request)
    if selection.candidates == ("reference",):
        return residual_mlp_reference(structure, operands, resolved)
    leading = operands.x.shape[:-1]
    # Inside shard_map: the cast of a replicated weight is what sums its gradient over the devices.
    call = Call(selection, structure, resolved, copies_side_by_side())
    results = apply(call, vary_alike(_flatten_rows(operands)))
    return tuple(result.reshape(*leading, result.shape[-1]) for result in results)


def _flatten_rows(operands: Operands) -> Operands:
    """Return the operands with the leading axes of x and skip merged."""
    x, projection = operands.x, operands.projection
    if projection is not None:
        projection = replace(projection, skip=projection.skip.reshape(-1, projection.skip.shape[-1]))
    return operands._replace(x=x.reshape(-1, x.shape[-1]), projection=projection)
