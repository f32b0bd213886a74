"""The arrays of a residual MLP and the static description of the chain that they form."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import jax
from jax import Array

Activation = Literal["gelu_tanh", "gelu_erf", "silu"]
NormKind = Literal["layer", "rms"]
# Array fields of registered dataclasses: JAX puts partition specs, tracers and placeholders there as well.
Leaf = Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Norm:
    """Normalisation over the last axis, applied to the input before the MLP, with float32 statistics.

    `kind="layer"`: (x - mean) / sqrt(variance + epsilon) * scale + bias, biased variance. `kind="rms"`:
    x / sqrt(mean(x²) + epsilon) * scale + bias. `bias=None` leaves the addition out. `epsilon` has no default because
    the two kinds use different ones in the FLARE family: 1e-5, and 1.1920929e-07 for rms. Shapes: `scale` and `bias`
    `[C]`.
    """

    scale: Leaf
    bias: Leaf | None
    kind: NormKind = field(metadata={"static": True})
    epsilon: float = field(metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class HeadNorm(Norm):
    """Normalisation of what a branch returns, of each of its `heads` parts of D = C / heads channels by itself.

    As `Norm` otherwise, with `scale` None where there is no factor. Shapes: `scale` and `bias` `[D]`, shared by the
    heads; in the operands of a launch they are `[C]`.
    """

    heads: int = field(metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Projection:
    """The linear layer and residual addition in front of the MLP: a = skip + x @ weight + bias replaces x.

    In a FLARE block x is the merged heads, `weight` and `bias` are the attention's output projection and `skip` is the
    residual stream, so that one kernel does the whole second half of the block. Shapes: `weight` `[C_in, C]`, `bias`
    `[C]`, `skip` `[..., C]`.
    """

    weight: Leaf
    bias: Leaf
    skip: Leaf


class Branch(NamedTuple):
    """Kernels `[C_in, C_out]` and biases `[C_out]` of one MLP, in order, and the norm of its result."""

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    head_norm: HeadNorm | None = None


class Operands(NamedTuple):
    """Everything that one launch reads; `x` and the projection's `skip` are flattened to rows `[N, C]`."""

    x: Array
    projection: Projection | None
    norm: Norm | None
    branches: tuple[Branch, ...]


@dataclass(frozen=True)
class Layer:
    """One linear layer of a branch: v = u W + b, `activated` unless it is the last one, added to u if `residual`."""

    inputs: int
    outputs: int
    residual: bool
    activated: bool


@dataclass(frozen=True)
class Structure:
    """What the kernels need to know at trace time beside the arrays.

    `stream` is the width of a, the array that is normalised, fed to the branches and added by `outer_residual`; it is
    the width of x unless there is a projection.
    """

    inputs: int
    stream: int
    branches: tuple[tuple[Layer, ...], ...]
    activation: Activation
    outer_residual: bool

    @property
    def widths(self) -> tuple[int, ...]:
        """Every width that occurs."""
        return (self.inputs, self.stream, *(layer.outputs for layers in self.branches for layer in layers))


def chain_layers(branch: Branch, *, residual_in: bool, residual_out: bool) -> tuple[Layer, ...]:
    """Return the layers of one branch: first, inner and last; a requested residual is off where the widths differ."""
    shapes = [weight.shape for weight in branch.weights]
    if len(shapes) == 1:
        ((inputs, outputs),) = shapes
        return (Layer(inputs, outputs, residual_in and residual_out and inputs == outputs, False),)
    first, *inner, last = shapes
    return (
        Layer(*first, residual_in and first[0] == first[1], True),
        *(Layer(*shape, True, True) for shape in inner),
        Layer(*last, residual_out and last[0] == last[1], False),
    )


def round_weights(operands: Operands) -> Operands:
    """Return the operands with all matrices in the dtype of x."""
    dtype = operands.x.dtype
    branches = tuple(
        branch._replace(weights=tuple(weight.astype(dtype) for weight in branch.weights))
        for branch in operands.branches
    )
    projection = operands.projection
    if projection is not None:
        projection = replace(projection, weight=projection.weight.astype(dtype))
    return operands._replace(branches=branches, projection=projection)


def without_rows(operands: Operands) -> Operands:
    """Return the parameters alone, with None for x and skip."""
    return with_rows(operands, None, None)


def with_rows(parameters: Operands, x: Leaf, skip: Leaf) -> Operands:
    """Return the parameters with x and, where there is a projection, its skip."""
    projection = parameters.projection
    if projection is not None:
        projection = replace(projection, skip=skip)
    return parameters._replace(x=x, projection=projection)
