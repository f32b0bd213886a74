"""Branches of wide layers and many rows through Mosaic GPU: what is between its kernels, which is XLA's.

Forward a kernel takes up to five layers; on the way back one computes the states between layers, and one for each layer
its gradients. States and their cotangents go through memory in bfloat16, as in any XLA program. Projection and norms
are XLA's, which reads and writes the rows for them.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

from kernels._mosaic import takes_over
from kernels._target import Target
from kernels.residual_mlp.mosaic_chain import MOST_LAYERS, chain_states
from kernels.residual_mlp.mosaic_launch import ROWS_OF_COPIES, WIDTH, MosaicTiling
from kernels.residual_mlp.mosaic_layer import layer_gradients
from kernels.residual_mlp.operands import Branch, HeadNorm, Layer, Norm, Operands, Projection, Structure
from kernels.residual_mlp.reference import add, normalize, normalize_heads, project


def serves(structure: Structure, operands: Operands, tiling: MosaicTiling, target: Target) -> bool:
    """Return whether the kernels can take this call, and whether it has rows enough for them."""
    rows = operands.x.size // structure.inputs
    return (
        takes_over(target)
        and target.copies == 1  # they have no rule for a mapped axis
        and operands.x.dtype == jnp.bfloat16
        and rows >= tiling.fewest
        and rows % ROWS_OF_COPIES == 0
        and set(structure.widths) == {WIDTH}
    )


def forward(
    tiling: MosaicTiling, target: Target, structure: Structure, operands: Operands, precision: lax.Precision
) -> tuple[Array, ...]:
    """Return one `[N, 128]` array per branch."""
    stream = project(operands.x, operands.projection, precision)
    entry, results = _normalized(stream, operands.norm), []
    for layers, branch in zip(structure.branches, operands.branches, strict=True):
        result = entry
        for start in range(0, len(layers), MOST_LAYERS):
            part = layers[start : start + MOST_LAYERS]
            (result,) = _states(tiling, target, structure, branch, part, start, result, every=False)
        if branch.head_norm is not None:
            result = normalize_heads(result, branch.head_norm)
        results.append(add(stream, result) if structure.outer_residual else result)
    return tuple(results)


def backward(
    tiling: MosaicTiling,
    target: Target,
    structure: Structure,
    operands: Operands,
    cotangents: tuple[Array, ...],
    precision: lax.Precision,
) -> Operands:
    """Return the gradients of all operands, in their structure and dtypes; that of a projection is a layer's."""
    stream = project(operands.x, operands.projection, precision)
    entry, pull_back = jax.vjp(_normalized, stream, operands.norm)
    branches, passed = [], None
    for layers, branch, cotangent in zip(structure.branches, operands.branches, cotangents, strict=True):
        cotangent, gradients = _branch_gradients(tiling, target, structure, layers, branch, entry, cotangent)
        branches.append(gradients)
        passed = cotangent if passed is None else add(passed, cotangent)
    x, norm = pull_back(passed)
    if structure.outer_residual:
        x = add(x, cotangents[0])
    projection = operands.projection
    if projection is not None:
        layer = Layer(WIDTH, WIDTH, residual=False, activated=False)
        parameters = projection.weight, projection.bias
        found = layer_gradients(operands.x, x, layer, *parameters, structure.activation, tiling=tiling, target=target)
        weight, bias = (x.astype(p.dtype) for x, p in zip((found.weight, found.bias), parameters, strict=True))
        x, projection = found.x, Projection(weight=weight, bias=bias, skip=x)
    return Operands(x, projection, norm, tuple(branches))


def _normalized(stream: Array, norm: Norm | None) -> Array:
    """Return what the branches are given."""
    return stream if norm is None else normalize(stream, norm).astype(stream.dtype)


def _states(
    tiling: MosaicTiling,
    target: Target,
    structure: Structure,
    branch: Branch,
    layers: tuple[Layer, ...],
    start: int,
    entry: Array,
    *,
    every: bool,
) -> list[Array]:
    """Run some layers of a branch, from number `start` on."""
    stop = start + len(layers)
    weights, biases = branch.weights[start:stop], branch.biases[start:stop]
    return chain_states(entry, layers, weights, biases, structure.activation, every=every, tiling=tiling, target=target)


def _branch_gradients(
    tiling: MosaicTiling,
    target: Target,
    structure: Structure,
    layers: tuple[Layer, ...],
    branch: Branch,
    entry: Array,
    cotangent: Array,
) -> tuple[Array, Branch]:
    """Return the cotangent of a branch's input and the gradients of its parameters."""
    states, needed = [entry], len(layers) - (branch.head_norm is None)
    for start in range(0, needed, MOST_LAYERS):
        part = layers[start : min(start + MOST_LAYERS, needed)]
        states += _states(tiling, target, structure, branch, part, start, states[-1], every=True)
    head_norm: HeadNorm | None = None
    if branch.head_norm is not None:
        _, pull_back = jax.vjp(normalize_heads, states.pop(), branch.head_norm)
        cotangent, head_norm = pull_back(cotangent)
    weights, biases = [], []
    for layer, state, weight, bias in reversed(list(zip(layers, states, branch.weights, branch.biases, strict=True))):
        found = layer_gradients(
            state, cotangent, layer, weight, bias, structure.activation, tiling=tiling, target=target
        )
        cotangent = found.x
        weights.insert(0, found.weight.astype(weight.dtype))
        biases.insert(0, found.bias.astype(bias.dtype))
    return cotangent, Branch(tuple(weights), tuple(biases), head_norm)
