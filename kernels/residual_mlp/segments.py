"""Wide chains of many rows in launches of a few layers each (`Tiling.depth`).

A program holds the weights of one or two layers of 128 channels, and the sums of their gradients, where those of a
whole branch do not fit: no factors of gradients are stored then, and several programs share a processor, each of which
works while others wait. In exchange the states between launches, and their cotangents, go through memory in the dtype
of x, as in any XLA program. A projection before the branches is XLA's on the way forward, which adds the skip to it,
and a layer like others on the way back: the gradient of its weight is a sum over all rows, which takes XLA several
times as long where it does not try its algorithms.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
from jax import Array

from kernels._target import Target
from kernels.residual_mlp import mosaic
from kernels.residual_mlp.backward import run_backward
from kernels.residual_mlp.operands import Branch, Layer, Operands, Projection, Structure
from kernels.residual_mlp.pallas import fused_backward, fused_forward
from kernels.residual_mlp.plan import Plan
from kernels.residual_mlp.reference import add, project

# `planner(structure, operands, states=False)` plans the kernels of a chain, or of a part; with `states` its forward
# launch is part of a backward pass.
Planner = Callable[..., Plan]


class _Segment(NamedTuple):
    """A few layers of one branch: their structure, and their parameters as operands without rows."""

    structure: Structure
    parameters: Operands

    def of(self, rows: Array) -> Operands:
        """Return the operands for these rows."""
        return self.parameters._replace(x=rows)


def forward(planner: Planner, target: Target, structure: Structure, operands: Operands) -> tuple[Array, ...]:
    """Return one `[N, C_out]` array per branch."""
    plan = planner(structure, operands)
    if plan.mosaic is not None:
        return mosaic.forward(plan.mosaic, target, structure, operands, plan.precision)
    if plan.forward.depth is None:
        return fused_forward(plan, target, operands)
    stream = project(operands.x, operands.projection, plan.precision)
    results = []
    for segments in _branches(structure, operands, plan.forward.depth):
        rows = stream
        for segment in segments:
            rows = _run(planner, target, segment, rows, states=False)
        results.append(add(stream, rows) if structure.outer_residual else rows)
    return tuple(results)


def backward(
    planner: Planner, target: Target, structure: Structure, operands: Operands, cotangents: tuple[Array, ...]
) -> Operands:
    """Return the gradients of all operands, in their structure and dtypes."""
    plan = planner(structure, operands)
    if plan.mosaic is not None:
        return mosaic.backward(plan.mosaic, target, structure, operands, cotangents, plan.precision)
    if plan.backward.depth is None:
        return fused_backward(plan, target, operands, cotangents)
    stream = project(operands.x, operands.projection, plan.precision)
    found = [
        _branch_gradients(planner, target, segments, stream, cotangent)
        for segments, cotangent in zip(_branches(structure, operands, plan.backward.depth), cotangents, strict=True)
    ]
    passed = found[0].x
    for other in [*(x.x for x in found[1:]), *cotangents[: structure.outer_residual]]:
        passed = add(passed, other)
    x, projection = passed, None
    if operands.projection is not None:
        x, projection = _projection_gradients(planner, target, structure, operands, passed)
    norm = jax.tree.map(lambda *parts: sum(parts[1:], parts[0]), *(x.norm for x in found))
    return Operands(x, projection, norm, tuple(x.branches[0] for x in found))


def _projection_gradients(
    planner: Planner, target: Target, structure: Structure, operands: Operands, cotangent: Array
) -> tuple[Array, Projection]:
    """Return the gradients of x and of the projection from the cotangent of the stream."""
    before = operands.projection
    layer = Layer(structure.inputs, structure.stream, residual=False, activated=False)
    alone = Structure(structure.inputs, structure.inputs, ((layer,),), structure.activation, outer_residual=False)
    linear = Operands(operands.x, None, None, (Branch((before.weight,), (before.bias,)),))
    found = run_backward(planner(alone, linear), target, linear, (cotangent,))
    (weight,), (bias,), _ = found.branches[0]
    return found.x, Projection(weight=weight, bias=bias, skip=cotangent)


def _branch_gradients(
    planner: Planner, target: Target, segments: list[_Segment], stream: Array, cotangent: Array
) -> Operands:
    """Return the gradients of the stream and of one branch with its norm."""
    states = [stream]
    for segment in segments[:-1]:
        states.append(_run(planner, target, segment, states[-1], states=True))
    found = []
    for segment, state in zip(reversed(segments), reversed(states), strict=True):
        operands = segment.of(state)
        found.append(run_backward(planner(segment.structure, operands), target, operands, (cotangent,)))
        cotangent = found[-1].x
    found.reverse()
    branches = [x.branches[0] for x in found]
    branch = Branch(
        tuple(weight for x in branches for weight in x.weights),
        tuple(bias for x in branches for bias in x.biases),
        branches[-1].head_norm,
    )
    return Operands(cotangent, None, found[0].norm, (branch,))


def _run(planner: Planner, target: Target, segment: _Segment, rows: Array, *, states: bool) -> Array:
    operands = segment.of(rows)
    (result,) = fused_forward(planner(segment.structure, operands, states), target, operands)
    return result


def _branches(structure: Structure, operands: Operands, depth: int) -> Iterator[list[_Segment]]:
    """Yield the segments of every branch: the norm belongs to the first of them, that of heads to the last."""
    for layers, branch in zip(structure.branches, operands.branches, strict=True):
        segments = []
        for start in range(0, len(layers), depth):
            part, stop = layers[start : start + depth], start + depth
            inside = Branch(
                branch.weights[start:stop], branch.biases[start:stop], branch.head_norm if stop >= len(layers) else None
            )
            alone = Structure(part[0].inputs, part[0].inputs, (part,), structure.activation, outer_residual=False)
            segments.append(_Segment(alone, Operands(None, None, operands.norm if start == 0 else None, (inside,))))
        yield segments
