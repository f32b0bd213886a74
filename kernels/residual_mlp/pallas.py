"""The fused kernels: one launch forward; one launch and one reduction backward."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import jax
from jax import Array

from kernels._pallas import Operand, Output, pallas_call
from kernels._target import Target
from kernels.residual_mlp.backward import run_backward
from kernels.residual_mlp.kernel import forward_kernel
from kernels.residual_mlp.operands import Operands, round_weights
from kernels.residual_mlp.plan import Plan, plan_launch
from kernels.residual_mlp.stacks import stack_parameters


def fused_forward(plan: Plan, target: Target, operands: Operands) -> tuple[Array, ...]:
    """Return one `[N, C_out]` array per branch."""
    if plan.separate and len(operands.branches) > 1:
        return tuple(fused_forward(part, target, alone)[0] for part, alone in _each_branch(plan, operands))
    x = operands.x
    launch = plan_launch(plan.forward, x.shape[0], len(plan.structure.branches))
    places, stacked = stack_parameters(round_weights(operands) if plan.forward.precast else operands)
    widths = [layers[-1].outputs for layers in plan.structure.branches]
    return pallas_call(
        partial(forward_kernel, plan, launch, places),
        target=target,
        name="residual_mlp_forward",
        grid=(launch.programs * launch.groups,),
        inputs=jax.tree.map(Operand, stacked),
        outputs=tuple(Output((x.shape[0], width), x.dtype) for width in widths),
        warps=launch.tiling.warps,
        stages=launch.tiling.stages,
    )


def fused_backward(plan: Plan, target: Target, operands: Operands, cotangents: tuple[Array, ...]) -> Operands:
    """Return the gradients of all operands."""
    if not plan.separate or len(operands.branches) == 1:
        return run_backward(plan, target, operands, cotangents)
    found = [
        run_backward(part, target, alone, (cotangent,))
        for (part, alone), cotangent in zip(_each_branch(plan, operands), cotangents, strict=True)
    ]
    shared = jax.tree.map(lambda *x: sum(x[1:], x[0]), *(x._replace(branches=()) for x in found))
    return shared._replace(branches=tuple(x.branches[0] for x in found))


def _each_branch(plan: Plan, operands: Operands) -> Iterator[tuple[Plan, Operands]]:
    for layers, branch in zip(plan.structure.branches, operands.branches, strict=True):
        part = replace(plan, structure=replace(plan.structure, branches=(layers,)))
        yield part, operands._replace(branches=(branch,))
