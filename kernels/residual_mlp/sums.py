"""The sum of what programs left in their slots, as a kernel that reads all of a column at once."""

import math

import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl

from kernels._pallas import Operand, Output, pallas_call
from kernels._target import Target
from kernels._tiles import inside, load_masked, next_power_of_2
from kernels._triton_lowering import plt
from kernels.residual_mlp.tiles import Ref

_COLUMNS, _WARPS = 128, 8
# One tile holds the slots of so many programs.
_MOST_PROGRAMS = 128


def sum_over_programs(slots: Array, target: Target) -> Array:
    """Return the sum over the first axis of `[programs, ...]`, float32."""
    programs, *shape = slots.shape
    if not 1 < programs <= _MOST_PROGRAMS:
        return jnp.sum(slots, axis=0)
    rows, count = next_power_of_2(programs), math.prod(shape)

    def kernel(slots_ref: Ref, sums_ref: Ref) -> None:
        left = count - pl.program_id(0) * _COLUMNS if count % _COLUMNS else _COLUMNS
        values = load_masked(slots_ref.at[:, :], inside((rows, _COLUMNS), (programs, left)))
        columns = jnp.arange(_COLUMNS, dtype=jnp.int32) < left if count % _COLUMNS else None
        plt.store(sums_ref.at[:], jnp.sum(values, axis=0), mask=columns)

    sums = pallas_call(
        kernel,
        target=target,
        name="residual_mlp_sums",
        grid=(pl.cdiv(count, _COLUMNS),),
        inputs=Operand(slots.reshape(programs, count), pl.BlockSpec((rows, _COLUMNS), lambda i: (0, i))),
        outputs=Output((count,), jnp.float32, pl.BlockSpec((_COLUMNS,), lambda i: (i,))),
        warps=_WARPS,
    )
    return sums.reshape(shape)
