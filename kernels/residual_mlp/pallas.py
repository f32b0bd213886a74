"""The fused implementation: one kernel forward, one kernel and one reduction backward, joined by `custom_vjp`."""

from dataclasses import replace
from functools import partial

import jax
from jax import Array
from jax.experimental import pallas as pl

from kernels._pallas import pallas_call
from kernels._sharding import vary_like
from kernels.residual_mlp.backward import run_backward
from kernels.residual_mlp.kernel import forward_kernel
from kernels.residual_mlp.operands import Operands, round_weights
from kernels.residual_mlp.plan import Plan, plan_launch


def residual_mlp_pallas(plan: Plan, operands: Operands) -> tuple[Array, ...]:
    """Return one `[N, C_out]` array per branch; differentiable in every array of `operands`."""
    if plan.separate and len(operands.branches) > 1:
        return tuple(
            result
            for layers, branch in zip(plan.structure.branches, operands.branches, strict=True)
            for result in residual_mlp_pallas(
                replace(plan, structure=replace(plan.structure, branches=(layers,))),
                operands._replace(branches=(branch,)),
            )
        )
    leaves = jax.tree.leaves(operands)
    # Inside shard_map: the cast of a replicated weight is what sums its gradient over the devices.
    return _fused(plan, jax.tree.map(lambda leaf: vary_like(leaf, *leaves), operands))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _fused(plan: Plan, operands: Operands) -> tuple[Array, ...]:
    x = operands.x
    launch = plan_launch(plan.forward, x.shape[0], len(plan.structure.branches))
    leaves, treedef = jax.tree.flatten(round_weights(operands) if plan.forward.precast else operands)
    widths = [layers[-1].outputs for layers in plan.structure.branches]
    outputs = pallas_call(
        partial(forward_kernel, plan, launch, treedef),
        name="residual_mlp_forward",
        grid=(launch.programs * launch.groups,),
        in_specs=[pl.BlockSpec()] * len(leaves),
        out_specs=[pl.BlockSpec()] * len(widths),
        out_shape=[jax.ShapeDtypeStruct((x.shape[0], width), x.dtype) for width in widths],
        num_warps=launch.tiling.warps,
        num_stages=launch.tiling.stages,
    )(*leaves)
    return tuple(outputs)


def _forward(plan: Plan, operands: Operands) -> tuple[tuple[Array, ...], Operands]:
    return _fused(plan, operands), operands


def _backward(plan: Plan, operands: Operands, cotangents: tuple[Array, ...]) -> tuple[Operands]:
    return (run_backward(plan, operands, cotangents),)


_fused.defvjp(_forward, _backward)
