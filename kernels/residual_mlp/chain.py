"""The maths of the chain on row tiles: linear layers and branches, forward and backward.

Elementwise work and sums are float32; the operands of every matrix product are in the dtype of x.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jax import Array, lax

from kernels._tile_products import Products
from kernels.residual_mlp.activations import value_and_slope
from kernels.residual_mlp.operands import Branch, HeadNorm, Layer
from kernels.residual_mlp.plan import Section
from kernels.residual_mlp.tiles import (
    Chunk,
    Part,
    Ref,
    Rows,
    Tile,
    column_chunks,
    load_matrix,
    load_rows,
    load_vector,
    store_rows,
)

# How far rows that one thread holds of a product lie apart.
_ROWS_APART = 8


@dataclass(frozen=True)
class Arithmetic:
    """How tiles are held and multiplied; the largest block, the axis of the channels, what the target offers."""

    dtype: jnp.dtype
    numbers: Products
    precision: lax.Precision
    columns: int
    channel_axis: int

    def chunks(self, width: int) -> tuple[Chunk, ...]:
        """Cut a width into blocks."""
        return column_chunks(width, self.columns)

    def operand(self, tile: Tile) -> Tile:
        """Round a float32 tile to the operand dtype, as a factor of products."""
        values = self.rounded(tile)
        return values if self.precision == lax.Precision.HIGHEST else tuple(map(self.numbers.in_place, values))

    def rounded(self, tile: Tile) -> Tile:
        """Round a float32 tile to the operand dtype."""
        return tuple(values.astype(self.dtype) for values in tile)

    def load(self, ref: Ref, rows: Rows, chunks: tuple[Chunk, ...]) -> Tile:
        """Read a tile."""
        return load_rows(ref, rows, chunks, self.channel_axis)

    def store(self, ref: Ref, tile: Tile, rows: Rows, chunks: tuple[Chunk, ...]) -> None:
        """Write a tile."""
        store_rows(ref, tile, rows, chunks, self.channel_axis)

    def vector(self, vector: Part, chunk: Chunk) -> Array:
        """Read one block of a vector, ready to be broadcast over the rows."""
        return load_vector(vector, chunk, self.channel_axis)

    def over_channels(self, block: Array) -> Array:
        """Sum over the channels, keeping the axis."""
        return jnp.expand_dims(jnp.sum(block, axis=self.channel_axis), self.channel_axis)

    def over_rows(self, block: Array) -> Array:
        """Sum over the rows to `[1, size]`."""
        return jnp.sum(block, axis=1 - self.channel_axis)[None, :]

    def folded_rows(self, block: Array) -> Array:
        """Return sums of few rows of a block, those that one thread holds, which `over_folded` sums up.

        What sums over many tiles carries these: a sum over all rows goes through several threads, with a shuffle for
        each step, so that it is made once, at the end. Of transposed tiles it is made at once.
        """
        if self.channel_axis == 0:
            return self.over_rows(block)
        # The tensor cores leave every eighth row in one thread; with few rows their warps lie along the columns.
        return jnp.sum(block.reshape(-1, _ROWS_APART, block.shape[1]), axis=0)

    def over_folded(self, sums: Array) -> Array:
        """Sum what `folded_rows` left to `[1, size]`."""
        return sums if self.channel_axis == 0 else self.over_rows(sums)

    def folded_shape(self, size: int) -> tuple[int, int]:
        """Return the shape of what `folded_rows` leaves of so many columns."""
        return (1 if self.channel_axis == 0 else _ROWS_APART, size)

    def times_weight(self, block: Array, weight: Array, weight_axis: int) -> Array:
        """Contract the channels of a block with one axis of a weight."""
        if self.channel_axis == 1:
            return self._dot(block, weight, 1, weight_axis)
        return self._dot(weight, block, weight_axis, 0)

    def product(self, inputs: Array, cotangents: Array) -> Array:
        """Contract the rows of two blocks, to `[C_in, C_out]`."""
        return self._dot(inputs, cotangents, 1 - self.channel_axis, 1 - self.channel_axis)

    def _dot(self, left: Array, right: Array, left_axis: int, right_axis: int) -> Array:
        dimensions = (((left_axis,), (right_axis,)), ((), ()))
        return lax.dot_general(left, right, dimensions, precision=self.precision, preferred_element_type=jnp.float32)


class Matrix:
    """A weight matrix in blocks, read once (`resident`) or whenever a block is used."""

    def __init__(self, part: Part, arithmetic: Arithmetic, *, resident: bool) -> None:
        self.inputs, self.outputs = (arithmetic.chunks(width) for width in part.shape)
        self.arithmetic, self._part = arithmetic, part
        pairs = [(k, n) for k in range(len(self.inputs)) for n in range(len(self.outputs))]
        self._blocks = {pair: self._read(*pair) for pair in pairs} if resident else {}

    def block(self, k: int, n: int) -> Array:
        """Return block (k, n) in the operand dtype."""
        return self._blocks[k, n] if self._blocks else self._read(k, n)

    def _read(self, k: int, n: int) -> Array:
        return load_matrix(self._part, self.inputs[k], self.outputs[n]).astype(self.arithmetic.dtype)

    def apply(self, operand: Tile, bias: Part) -> Tile:
        """Return operand @ W + bias in float32."""
        result = []
        for n, chunk in enumerate(self.outputs):
            products = [self.arithmetic.times_weight(part, self.block(k, n), 0) for k, part in enumerate(operand)]
            result.append(sum(products[1:], products[0]) + self.arithmetic.vector(bias, chunk))
        return tuple(result)

    def apply_transposed(self, operand: Tile) -> Tile:
        """Return operand @ Wᵀ in float32."""
        result = []
        for k in range(len(self.inputs)):
            products = [self.arithmetic.times_weight(part, self.block(k, n), 1) for n, part in enumerate(operand)]
            result.append(sum(products[1:], products[0]))
        return tuple(result)


@runtime_checkable
class Sink(Protocol):
    """Takes what the gradients of the parameters are made of."""

    def inputs(self, weight: Section, matrix: Matrix, operand: Tile) -> None:
        """Take the input of a linear layer."""

    def cotangent(self, weight: Section, matrix: Matrix, operand: Tile) -> None:
        """Take the cotangent of the layer's product, after its input."""

    def sums(self, section: Section, chunks: tuple[Chunk, ...], tile: Tile) -> None:
        """Take a float32 tile whose sum over the rows is the gradient of a vector."""


def add(first: Tile, second: Tile) -> Tile:
    """Add two tiles."""
    return tuple(a + b for a, b in zip(first, second, strict=True))


def multiply(first: Tile, second: Tile) -> Tile:
    """Multiply two tiles."""
    return tuple(a * b for a, b in zip(first, second, strict=True))


def linear_cotangent(matrix: Matrix, weight: Section, bias: Section, cotangent: Tile, sink: Sink) -> Tile:
    """Hand the gradients of one linear layer to the sink and return the cotangent of its input."""
    operand = matrix.arithmetic.operand(cotangent)
    sink.cotangent(weight, matrix, operand)
    sink.sums(bias, matrix.outputs, cotangent)
    return matrix.apply_transposed(operand)


class BranchMatrices(NamedTuple):
    """One branch ready for use: its layers, weight matrices and the references of its biases and of its norm."""

    layers: tuple[Layer, ...]
    matrices: tuple[Matrix, ...]
    biases: tuple[Part, ...]
    head_norm: HeadNorm | None = None


class BranchState(NamedTuple):
    """A branch after its activated layers: act'(z) of these in the operand dtype, and the last hidden tile."""

    slopes: list[Tile]
    hidden: Tile


def branch_state(
    branch: BranchMatrices, activation: str, entry: Tile, on_operand: Callable[[int, Tile], None]
) -> BranchState:
    """Run the activated layers; `on_operand(index, operand)` sees the input of each of them."""
    slopes, hidden = [], entry
    for index, layer in enumerate(branch.layers):
        if not layer.activated:  # the last one
            break
        matrix = branch.matrices[index]
        operand = matrix.arithmetic.operand(hidden)
        products = matrix.apply(operand, branch.biases[index])
        # After the product: the fence of its operands in shared memory would wait for what is stored here.
        on_operand(index, operand)
        pairs = [value_and_slope(activation, z, matrix.arithmetic.numbers) for z in products]
        values = tuple(value for value, _ in pairs)
        slopes.append(matrix.arithmetic.rounded(tuple(slope for _, slope in pairs)))
        hidden = add(hidden, values) if layer.residual else values
    return BranchState(slopes, hidden)


def branch_result(branch: BranchMatrices, activation: str, entry: Tile) -> Tile:
    """Return the branch's output tile in float32, before its norm."""
    return _last_layer(branch, branch_state(branch, activation, entry, lambda index, operand: None).hidden)


def _last_layer(branch: BranchMatrices, hidden: Tile) -> Tile:
    if branch.layers[-1].activated:
        return hidden
    matrix = branch.matrices[-1]
    result = matrix.apply(matrix.arithmetic.operand(hidden), branch.biases[-1])
    return add(hidden, result) if branch.layers[-1].residual else result


def branch_cotangent(
    branch: BranchMatrices,
    sections: Branch,
    activation: str,
    entry: Tile,
    load_cotangent: Callable[[Callable[[], Tile]], Tile],
    sink: Sink,
) -> Tile:
    """Hand the gradients of a branch to the sink and return the cotangent of its entry tile.

    `load_cotangent` reads the output's cotangent, which takes no registers until the layers have been run again; it is
    given a function that returns the output, of which a norm needs the cotangent.
    """

    def remember(index: int, operand: Tile) -> None:
        sink.inputs(sections.weights[index], branch.matrices[index], operand)

    slopes, hidden = branch_state(branch, activation, entry, remember)
    last = len(branch.layers) - 1
    if not branch.layers[last].activated:
        remember(last, branch.matrices[last].arithmetic.operand(hidden))
    cotangent = load_cotangent(lambda: _last_layer(branch, hidden))
    for index in range(last, -1, -1):
        layer = branch.layers[index]
        inner = multiply(cotangent, slopes[index]) if layer.activated else cotangent
        passed = linear_cotangent(branch.matrices[index], sections.weights[index], sections.biases[index], inner, sink)
        cotangent = add(cotangent, passed) if layer.residual else passed
    return cotangent
