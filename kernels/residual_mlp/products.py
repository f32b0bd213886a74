"""Products of stored factors as a kernel: with few rows XLA's, one after the other, take longer than all of them here.

A program does a part of the rows for one matrix.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl

from kernels._pallas import Operand, Output, pallas_call
from kernels._target import Target
from kernels._triton_lowering import plt
from kernels.residual_mlp.chain import Arithmetic
from kernels.residual_mlp.gradients import Factors
from kernels.residual_mlp.plan import Plan
from kernels.residual_mlp.sums import sum_over_programs
from kernels.residual_mlp.tiles import Chunk, Ref, Rows, padded

_ROWS, _WARPS = 32, 4


class _Matrix(NamedTuple):
    """Where the product of two factors is, from row `start` on, and the blocks of its rows and columns."""

    start: int
    inputs: tuple[Chunk, ...]
    outputs: tuple[Chunk, ...]


def products_of_factors(plan: Plan, target: Target, factors: Sequence[Factors], parts: int) -> tuple[Array, ...]:
    """Return inputsᵀ @ cotangents of every pair of arrays `[rows, C]` in float32, summed over `parts` of the rows."""
    first = factors[0].inputs
    arithmetic = Arithmetic(first.dtype, plan.numbers, plan.precision, plan.backward.columns, 1)
    matrices, height = [], 0
    for inputs, cotangents in factors:
        matrices.append(_Matrix(height, arithmetic.chunks(inputs.shape[1]), arithmetic.chunks(cotangents.shape[1])))
        height += padded(inputs.shape[1], plan.backward.columns)
    width = max(padded(cotangents.shape[1], plan.backward.columns) for _, cotangents in factors)
    tiles = pl.cdiv(pl.cdiv(len(first), _ROWS), parts)

    def kernel(read: tuple[Factors, ...], sums_ref: Ref) -> None:
        program = pl.program_id(0)
        part, chosen = program // len(matrices), program % len(matrices)
        for index, (pair, matrix) in enumerate(zip(read, matrices, strict=True)):
            run = partial(_product, pair, matrix, sums_ref, part, tiles, len(first), arithmetic)
            pl.when(chosen == index)(run)

    sums = pallas_call(
        kernel,
        target=target,
        name="residual_mlp_products",
        grid=(parts * len(matrices),),
        inputs=tuple(Factors(Operand(inputs), Operand(cotangents)) for inputs, cotangents in factors),
        outputs=Output((parts, height, width), jnp.float32),
        warps=_WARPS,
    )
    total = sum_over_programs(sums, target)
    return tuple(
        total[matrix.start : matrix.start + inputs.shape[1], : cotangents.shape[1]]
        for matrix, (inputs, cotangents) in zip(matrices, factors, strict=True)
    )


def _product(
    factors: Factors, matrix: _Matrix, sums_ref: Ref, part: Array, tiles: int, count: int, arithmetic: Arithmetic
) -> None:
    """Sum one matrix over one part of the rows, `tiles` tiles of them."""

    def step(tile: Array, sums: list[Array]) -> list[Array]:
        rows = Rows((part * tiles + tile) * _ROWS, _ROWS, count, True)
        inputs = arithmetic.rounded(arithmetic.load(factors.inputs, rows, matrix.inputs))
        cotangents = arithmetic.rounded(arithmetic.load(factors.cotangents, rows, matrix.outputs))
        products = [arithmetic.product(a, b) for a in inputs for b in cotangents]
        return [total + product for total, product in zip(sums, products, strict=True)]

    pairs = [(a, b) for a in matrix.inputs for b in matrix.outputs]
    sums = lax.fori_loop(0, tiles, step, [jnp.zeros((a.size, b.size), jnp.float32) for a, b in pairs])
    for (a, b), total in zip(pairs, sums, strict=True):
        view = sums_ref.at[part, pl.ds(matrix.start + a.start, a.size), pl.ds(b.start, b.size)]
        plt.store(view, total)
