"""Where a program's parameter gradients go: its slot of the partial buffer, registers, or stored factors."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl

from kernels._triton_lowering import plt
from kernels.residual_mlp.chain import Arithmetic, Matrix
from kernels.residual_mlp.operands import Operands
from kernels.residual_mlp.plan import Section
from kernels.residual_mlp.tiles import Chunk, Ref, Rows, Tile

_ONE_ROW = Chunk(0, 1, 1)


class Block(NamedTuple):
    """One block of one parameter's gradient."""

    section: Section
    row_chunk: Chunk
    chunk: Chunk


Carry = dict[Block, Array]
Emit = Callable[[Block, Array], None]


class Factors(NamedTuple):
    """References to the stored factors of one weight gradient: the layer's inputs and the product's cotangents."""

    inputs: Ref
    cotangents: Ref


class ProductSink:
    """Forms the weight gradients of a tile and emits them block by block.

    With `late` it does so when the tile is finished: products of tiles in shared memory wait for all earlier stores.
    """

    def __init__(self, emit: Emit, arithmetic: Arithmetic, *, late: bool = False, folded: bool = False) -> None:
        self._emit, self._arithmetic, self._late = emit, arithmetic, late
        self._over_rows = arithmetic.folded_rows if folded else arithmetic.over_rows
        self._inputs: dict[Section, Tile] = {}
        self._factors: list[tuple[Section, Matrix, Tile]] = []
        self._blocks: list[tuple[Block, Array]] = []

    def inputs(self, weight: Section, matrix: Matrix, operand: Tile) -> None:
        """Keep the input of a linear layer."""
        self._inputs[weight] = operand

    def cotangent(self, weight: Section, matrix: Matrix, operand: Tile) -> None:
        """Emit inputsᵀ @ cotangent."""
        if self._late:
            self._factors.append((weight, matrix, operand))
            return
        for block, values in self._products(weight, matrix, operand):
            self._emit(block, values)

    def _products(self, weight: Section, matrix: Matrix, operand: Tile) -> Iterator[tuple[Block, Array]]:
        for row_chunk, part in zip(matrix.inputs, self._inputs.pop(weight), strict=True):
            for chunk, values in zip(matrix.outputs, operand, strict=True):
                yield Block(weight, row_chunk, chunk), self._arithmetic.product(part, values)

    def sums(self, section: Section, chunks: tuple[Chunk, ...], tile: Tile) -> None:
        """Emit the sums over the rows."""
        for chunk, values in zip(chunks, tile, strict=True):
            block, sums = Block(section, _ONE_ROW, chunk), self._over_rows(values)
            if self._late:
                self._blocks.append((block, sums))
            else:
                self._emit(block, sums)

    def finish(self) -> None:
        """Emit what is left at the end of a tile: all products are formed before the first of them is stored."""
        blocks = [block for factors in self._factors for block in self._products(*factors)]
        for block, values in (*blocks, *self._blocks):
            self._emit(block, values)


class FactorSink(ProductSink):
    """Stores the factors of the weight gradients, for matrix products outside the kernel; vectors are emitted."""

    def __init__(
        self,
        emit: Emit,
        arithmetic: Arithmetic,
        factors: dict[Section, Factors],
        rows: Rows,
        *,
        late: bool,
        folded: bool,
    ) -> None:
        super().__init__(emit, arithmetic, folded=folded)
        self._cotangents_late = late
        self._stored, self._rows, self._cotangents = factors, rows, []

    def inputs(self, weight: Section, matrix: Matrix, operand: Tile) -> None:
        """Store the input of a linear layer at once, which frees its registers."""
        self._arithmetic.store(self._stored[weight].inputs, operand, self._rows, matrix.inputs)

    def cotangent(self, weight: Section, matrix: Matrix, operand: Tile) -> None:
        """Store the cotangent of the layer's product, or keep it: on the way back little hides the time of a store."""
        self._cotangents.append((self._stored[weight].cotangents, operand, matrix.outputs))
        if not self._cotangents_late:
            self.finish()

    def finish(self) -> None:
        """Store the cotangents that have been kept."""
        while self._cotangents:
            ref, operand, chunks = self._cotangents.pop(0)
            self._arithmetic.store(ref, operand, self._rows, chunks)


def storing(slot: Ref) -> Emit:
    """Return the emitter that writes each block once."""
    return lambda block, values: plt.store(_view(slot, block), values)


def accumulating(slot: Ref, tile: Array, barrier: Callable[[], None]) -> Emit:
    """Return the emitter that adds to what the program's earlier tiles wrote; tile 0 finds the slot undefined."""
    # What other threads of the program stored for the last tile must have arrived.
    barrier()

    def emit(block: Block, values: Array) -> None:
        view = _view(slot, block)
        earlier = plt.load(view, mask=jnp.broadcast_to(tile > 0, values.shape), other=0.0)
        plt.store(view, earlier + values)

    return emit


def carrying(carry: Carry) -> Emit:
    """Return the emitter that adds to the blocks of `carry` in place."""

    def emit(block: Block, values: Array) -> None:
        carry[block] = carry[block] + values

    return emit


def empty_carry(sections: Operands, members: tuple[int, ...], arithmetic: Arithmetic, *, matrices: bool) -> Carry:
    """Return zeros for every block that a program working on the branches `members` emits, vectors as folded rows."""
    mine = (sections.projection, sections.norm, tuple(sections.branches[index] for index in members))
    carry = {}
    for section in jax.tree.leaves(mine):
        if section.is_matrix and not matrices:
            continue
        for row_chunk in arithmetic.chunks(section.rows) if section.is_matrix else (_ONE_ROW,):
            for chunk in arithmetic.chunks(section.columns):
                shape = (row_chunk.size, chunk.size) if section.is_matrix else arithmetic.folded_shape(chunk.size)
                carry[Block(section, row_chunk, chunk)] = jnp.zeros(shape, jnp.float32)
    return carry


def _view(slot: Ref, block: Block) -> Ref:
    section, row_chunk, chunk = block
    return slot.at[pl.ds(section.start + row_chunk.start, row_chunk.size), pl.ds(chunk.start, chunk.size)]
