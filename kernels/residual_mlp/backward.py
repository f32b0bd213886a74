"""The backward pass around its kernel: launches, the reduction over programs, products of stored factors."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl

from kernels._pallas import Operand, Output, pallas_call
from kernels._products import parts_of_rows
from kernels._target import Target
from kernels.residual_mlp.gradients import Factors
from kernels.residual_mlp.kernel import Incoming, Outgoing, backward_kernel
from kernels.residual_mlp.operands import Operands, round_weights, with_rows, without_rows
from kernels.residual_mlp.plan import GradientSlots, Launch, Plan, Section, plan_launch, plan_slots
from kernels.residual_mlp.products import products_of_factors
from kernels.residual_mlp.stacks import Stacked, stack_parameters
from kernels.residual_mlp.sums import sum_over_programs

# Factors are stored for at most this many bytes of rows at a time.
_FACTOR_BYTES = 2**30


class Sums(NamedTuple):
    """Gradient sums over the rows of a launch: the slot of every group, and one product per factored matrix."""

    slot: Array
    products: tuple[Array, ...]


class Cotangents(NamedTuple):
    """Cotangents of the row operands."""

    x: Array
    skip: Array | None


Step = Callable[[Array | None], tuple[Cotangents, Sums]]


def run_backward(plan: Plan, target: Target, operands: Operands, cotangents: tuple[Array, ...]) -> Operands:
    """Return the gradients of all operands, in their structure and dtypes."""
    count, width = operands.x.shape
    tiling = plan.backward
    factor_row_bytes = sum(layer.inputs + layer.outputs for layers in plan.structure.branches for layer in layers)
    if operands.projection is not None:
        factor_row_bytes += width + plan.structure.stream
    largest_chunk = _FACTOR_BYTES // (factor_row_bytes * operands.x.dtype.itemsize) if tiling.padded_factors else None
    launch = plan_launch(tiling, count, len(plan.structure.branches), largest_chunk)
    slots = plan_slots(operands, launch)
    read = round_weights(operands) if tiling.precast else operands
    places, stacked = stack_parameters(read)
    step = partial(_launch_backward, plan, target, launch, slots, places, stacked, cotangents)
    rows, sums = step(None) if launch.chunks == 1 else _accumulate(launch, step)
    rows = jax.tree.map(lambda array: array[:count], rows)
    return _assemble(operands, slots, rows, sums)


def _accumulate(launch: Launch, step: Step) -> tuple[Cotangents, Sums]:
    """Launch over one part of the rows after the other, so that the stored factors take bounded memory."""

    def body(total: Sums, first: Array) -> tuple[Sums, Cotangents]:
        rows, sums = step(first)
        return jax.tree.map(jnp.add, total, sums), rows

    firsts = jnp.arange(launch.chunks, dtype=jnp.int32)[:, None] * launch.covered
    sums = jax.eval_shape(lambda: step(firsts[0])[1])
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), sums)
    total, rows = lax.scan(body, zeros, firsts)
    return jax.tree.map(lambda array: array.reshape(-1, array.shape[-1]), rows), total


def _launch_backward(
    plan: Plan,
    target: Target,
    launch: Launch,
    slots: GradientSlots,
    places: Operands,
    operands: Stacked,
    cotangents: tuple[Array, ...],
    first: Array | None,
) -> tuple[Cotangents, Sums]:
    """Run the kernel for the rows from `first` on; return their cotangents and the sums over them."""
    outgoing = pallas_call(
        partial(backward_kernel, plan, launch, slots.sections, places),
        target=target,
        name="residual_mlp_backward",
        grid=(launch.programs * launch.groups,),
        inputs=jax.tree.map(Operand, (operands, Incoming(cotangents, first))),
        outputs=_results(launch, slots, operands),
        warps=launch.tiling.warps,
        stages=launch.tiling.stages,
    )
    x = outgoing.x[0] if launch.groups == 1 else jnp.sum(outgoing.x, axis=0, dtype=jnp.float32)
    if outgoing.factors and launch.tiling.parts is not None:
        products = products_of_factors(plan, target, outgoing.factors, launch.tiling.parts)
    else:
        products = tuple(_product(plan.precision, target.copies, *factors) for factors in outgoing.factors)
    rows = Cotangents(x.astype(operands.x.dtype), outgoing.skip)
    return rows, Sums(sum_over_programs(outgoing.slot, target), products)


def _results(launch: Launch, slots: GradientSlots, operands: Stacked) -> Outgoing:
    """Describe what the kernel writes: each program its group's cotangent of x and its own slot, the rest is whole."""
    x, skip, groups = operands.x, operands.skip, launch.groups
    height = launch.covered if launch.tiling.padded_factors else x.shape[0]
    factors = ()
    if launch.tiling.factored:
        matrices = [section for section in jax.tree.leaves(slots.sections) if section.is_matrix]
        factors = tuple(
            Factors(*(Output((height, width), x.dtype) for width in (section.rows, section.columns)))
            for section in matrices
        )
    of_group = pl.BlockSpec((None, height, x.shape[1]), lambda program: (program % groups, 0, 0))
    own = pl.BlockSpec(
        (None, None, slots.height, slots.width), lambda program: (program // groups, program % groups, 0, 0)
    )
    return Outgoing(
        x=Output((groups, height, x.shape[1]), x.dtype, of_group),
        skip=None if skip is None else Output((height, skip.shape[1]), x.dtype),
        slot=Output((launch.programs, groups, slots.height, slots.width), jnp.float32, own),
        factors=factors,
    )


def _product(precision: lax.Precision, copies: int, inputs: Array, cotangents: Array) -> Array:
    """Return inputsᵀ @ cotangents in float32, as a sum of parts where several copies run side by side."""
    product = partial(lax.dot_general, precision=precision, preferred_element_type=jnp.float32)
    parts = parts_of_rows(inputs.shape[0], (inputs.shape[1], cotangents.shape[1]), copies)
    if parts == 1:
        return product(inputs, cotangents, (((0,), (0,)), ((), ())))
    inputs, cotangents = (x.reshape(parts, -1, x.shape[1]) for x in (inputs, cotangents))
    return jnp.sum(product(inputs, cotangents, (((1,), (1,)), ((0,), (0,)))), axis=0)


def _assemble(operands: Operands, slots: GradientSlots, rows: Cotangents, sums: Sums) -> Operands:
    """Cut the sums into parameter gradients and put the cotangents of the row operands beside them."""
    matrices = [section for section in jax.tree.leaves(slots.sections) if section.is_matrix]
    products = dict(zip(matrices, sums.products, strict=True)) if sums.products else {}

    def gradient(section: Section, parameter: Array) -> Array:
        if section in products:
            return products[section].astype(parameter.dtype)
        blocks = sums.slot[:, section.start : section.start + section.rows, : section.columns]
        # A sum of the blocks alone is part of whatever takes the gradient; that of whole slots is a program of its own.
        block = jnp.sum(blocks, axis=0) if section.group is None else blocks[section.group]
        return block.reshape(parameter.shape).astype(parameter.dtype)

    # x and skip have no section; they are taken out of the tree and put back as cotangents.
    gradients = jax.tree.map(gradient, slots.sections, without_rows(operands))
    skip = None if rows.skip is None else rows.skip.astype(operands.projection.skip.dtype)
    return with_rows(gradients, rows.x, skip)
