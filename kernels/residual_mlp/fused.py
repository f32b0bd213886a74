"""The residual MLP where the target decides between the kernels and plain XLA, joined by `custom_vjp`."""

from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from kernels._operation import Selection, Served
from kernels._products import side_by_side
from kernels._target import Target, on_target
from kernels.residual_mlp.operands import Operands, Structure
from kernels.residual_mlp.plan import Plan
from kernels.residual_mlp.reference import residual_mlp_reference
from kernels.residual_mlp.segments import Planner, backward, forward
from kernels.residual_mlp.table import plan_for


@dataclass(frozen=True)
class Call:
    """Everything static about a call; `copies` of it are announced by `side_by_side` where it is traced."""

    selection: Selection
    structure: Structure
    precision: lax.Precision
    copies: int

    def reference(self, operands: Operands) -> tuple[Array, ...]:
        """Return the results of plain XLA."""
        with side_by_side(self.copies):  # also where the call is traced later, to be lowered
            return residual_mlp_reference(self.structure, operands, self.precision)

    def served(self, target: Target) -> Served:
        """Return what runs on the target, for the rows of all copies."""
        request = self.selection.request
        request = replace(request, points=request.points * target.copies)
        return replace(self.selection, request=request).on(target)

    def planner(self, served: Served, target: Target) -> Planner:
        """Return the function that plans the kernels of the chain, or of a part of it."""

        def plan(structure: Structure, operands: Operands, states: bool = False) -> Plan:
            return plan_for(served, structure, operands, self.precision, target, states)

        return plan

    def pull_back(self, operands: Operands) -> Any:
        """Return the shapes of what plain XLA keeps for its gradient, None where it cannot run."""
        if "reference" not in self.selection.candidates:
            return None
        arrays, structure = jax.tree.flatten(operands)
        return _kept(self, structure, tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in arrays))

    def keep(self, operands: Operands) -> tuple[tuple[Array, ...], Any]:
        """Return the results of plain XLA, and the function of their cotangents that gives its gradient."""
        return jax.vjp(self.reference, operands)


@lru_cache(maxsize=256)
def _kept(call: Call, structure: Any, shapes: tuple[jax.ShapeDtypeStruct, ...]) -> Any:
    """Trace the gradient once for all layers of one kind."""
    return jax.eval_shape(call.keep, structure.unflatten(shapes))[1]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def apply(call: Call, operands: Operands) -> tuple[Array, ...]:
    """Return one `[N, C_out]` array per branch; differentiable in every array of `operands`."""
    return on_target(_run, operands, static=(call,))


def _run(call: Call, target: Target, operands: Operands) -> tuple[Array, ...]:
    served = call.served(target)
    if served.implementation == "reference":
        return call.reference(operands)
    return forward(call.planner(served, target), target, call.structure, operands)


def _forward(call: Call, operands: Operands) -> tuple[tuple[Array, ...], Any]:
    shapes, structure = jax.tree.flatten(call.pull_back(operands))
    results, kept = on_target(_run_and_keep, operands, static=(call, tuple(shapes)))
    return results, (operands, structure.unflatten(kept))


def _run_and_keep(
    call: Call, shapes: tuple[jax.ShapeDtypeStruct, ...], target: Target, operands: Operands
) -> tuple[tuple[Array, ...], list]:
    """Return the results, and what plain XLA keeps for its gradient, which is zeros where the kernels run."""
    served = call.served(target)
    if served.implementation == "reference":
        # Traced in any case: from arrays that are one and the same object it would keep one of them only.
        results, pull_back = jax.jit(call.keep, inline=True)(operands)
        return results, jax.tree.leaves(pull_back)
    results = forward(call.planner(served, target), target, call.structure, operands)
    return results, [jnp.zeros(x.shape, x.dtype) for x in shapes]


def _backward(call: Call, residuals: tuple, cotangents: tuple[Array, ...]) -> tuple[Operands]:
    return (on_target(_gradients, *residuals, cotangents, static=(call,)),)


def _gradients(
    call: Call, target: Target, operands: Operands, pull_back: Any, cotangents: tuple[Array, ...]
) -> Operands:
    served = call.served(target)
    if served.implementation == "reference":
        return pull_back(cotangents)[0]
    return backward(call.planner(served, target), target, call.structure, operands, cotangents)


apply.defvjp(_forward, _backward)
