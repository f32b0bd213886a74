"""The forward and the backward kernel body: one program does some row tiles of one group of branches."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
from jax import Array, lax
from jax.experimental import pallas as pl

from kernels.residual_mlp.chain import (
    Arithmetic,
    BranchMatrices,
    Matrix,
    Sink,
    add,
    branch_cotangent,
    branch_result,
    linear_cotangent,
)
from kernels.residual_mlp.gradients import (
    Factors,
    FactorSink,
    ProductSink,
    accumulating,
    carrying,
    empty_carry,
    storing,
)
from kernels.residual_mlp.norms import NormState, apply_head_norm, apply_norm, head_norm_cotangent, norm_cotangent
from kernels.residual_mlp.operands import Branch, Operands
from kernels.residual_mlp.plan import Launch, Plan
from kernels.residual_mlp.stacks import Stacked, references
from kernels.residual_mlp.tiles import Part, Ref, Rows, Tile

# Up to these widths the registers hold what is stored at the end of a tile: factors, or whole products.
_LATE_FACTORS, _LATE_PRODUCTS = 128, 64


class Incoming(NamedTuple):
    """What the backward pass reads beside the operands: output cotangents, and the first row of this launch."""

    outputs: tuple[Ref, ...]
    first: Ref | None


class Outgoing(NamedTuple):
    """What the backward pass writes: cotangents of x and skip, gradient slot, and factors in the order of sections."""

    x: Ref
    skip: Ref | None
    slot: Ref
    factors: tuple[Factors, ...]


class Place(NamedTuple):
    """Where a tile is: its number in the program, its rows in the operands and its rows in what the launch writes."""

    tile: Array | int
    source: Rows
    target: Rows


class Entry(NamedTuple):
    """Tiles at the entry of the branches: x as an operand, the stream a, and a after the norm."""

    operand: Tile
    stream: Tile
    normalized: Tile
    norm_state: NormState | None


class Chain:
    """The chain as one program sees it: references, column chunks and the weight matrices of its branches."""

    def __init__(self, plan: Plan, launch: Launch, refs: Operands, members: tuple[int, ...]) -> None:
        self.structure, self.refs = plan.structure, refs
        tiling = launch.tiling
        axis = 0 if tiling.transposed else 1
        self.arithmetic = Arithmetic(refs.x.dtype, plan.numbers, plan.precision, tiling.columns, axis)
        self.input_chunks = self.arithmetic.chunks(self.structure.inputs)
        self.stream_chunks = self.arithmetic.chunks(self.structure.stream)
        read = partial(Matrix, arithmetic=self.arithmetic, resident=tiling.resident)
        self.projection = None if refs.projection is None else read(refs.projection.weight)
        self.branches = {index: self._branch(index, read) for index in members}

    def _branch(self, index: int, read: Callable[[Part], Matrix]) -> BranchMatrices:
        branch = self.refs.branches[index]
        matrices = tuple(read(weight) for weight in branch.weights)
        return BranchMatrices(self.structure.branches[index], matrices, tuple(branch.biases), branch.head_norm)

    def entry(self, rows: Rows) -> Entry:
        """Load x and go through projection and norm."""
        inputs = stream = self.arithmetic.load(self.refs.x, rows, self.input_chunks)
        operand = self.arithmetic.operand(inputs)
        if self.projection is not None:
            skip = self.arithmetic.load(self.refs.projection.skip, rows, self.stream_chunks)
            stream = add(skip, self.projection.apply(operand, self.refs.projection.bias))
        if self.refs.norm is None:
            return Entry(operand, stream, stream, None)
        return Entry(operand, stream, *apply_norm(self.refs.norm, self.arithmetic, self.stream_chunks, stream))

    def forward(self, rows: Rows, outputs: Sequence[Ref]) -> None:
        """Write the result of every branch for one tile."""
        entry = self.entry(rows)
        for index, branch in self.branches.items():
            result = branch_result(branch, self.structure.activation, entry.normalized)
            if branch.head_norm is not None:
                result = apply_head_norm(branch.head_norm, self.arithmetic, branch.matrices[-1].outputs, result)
            result = add(entry.stream, result) if self.structure.outer_residual else result
            self.arithmetic.store(outputs[index], result, rows, branch.matrices[-1].outputs)

    def backward(self, place: Place, sections: Operands, incoming: Incoming, outgoing: Outgoing, sink: Sink) -> None:
        """Recompute one tile, write the cotangents of x and skip and hand the parameters' gradients to the sink."""
        entry = self.entry(place.source)
        stream = None
        for index, branch in self.branches.items():
            where = sections.branches[index]
            load_cotangent = partial(self._cotangent, branch, where, incoming.outputs[index], place.source, sink)
            passed = branch_cotangent(branch, where, self.structure.activation, entry.normalized, load_cotangent, sink)
            stream = passed if stream is None else add(stream, passed)
        if self.refs.norm is not None:
            # Reading x again costs less than holding the normalised tile in registers all the way.
            state = (entry if self.projection is not None else self.entry(place.source)).norm_state
            stream = norm_cotangent(
                self.refs.norm, sections.norm, self.arithmetic, self.stream_chunks, state, stream, sink
            )
        if self.structure.outer_residual:
            # There is one branch then.
            stream = add(stream, self.arithmetic.load(incoming.outputs[0], place.source, self.stream_chunks))
        if self.projection is not None:
            self.arithmetic.store(outgoing.skip, stream, place.target, self.stream_chunks)
            weight, bias = sections.projection.weight, sections.projection.bias
            sink.inputs(weight, self.projection, entry.operand)
            stream = linear_cotangent(self.projection, weight, bias, stream, sink)
        self.arithmetic.store(outgoing.x, stream, place.target, self.input_chunks)

    def _cotangent(
        self, branch: BranchMatrices, where: Branch, ref: Ref, rows: Rows, sink: Sink, result: Callable[[], Tile]
    ) -> Tile:
        """Load the cotangent of what a branch returns and go back through its norm."""
        chunks = branch.matrices[-1].outputs
        cotangent = self.arithmetic.load(ref, rows, chunks)
        if branch.head_norm is None:
            return cotangent
        return head_norm_cotangent(
            branch.head_norm, where.head_norm, self.arithmetic, chunks, result(), cotangent, sink
        )


def forward_kernel(plan: Plan, launch: Launch, places: Operands, inputs: Stacked, outputs: tuple[Ref, ...]) -> None:
    """Body of the forward pass: references to what is read, and to one output per branch."""
    operands = references(places, inputs)

    def run(members: tuple[int, ...], program: Array) -> None:
        chain = Chain(plan, launch, operands, members)
        _for_each_tile(launch, program, 0, lambda place, carry: chain.forward(place.source, outputs), None)

    _per_group(launch, len(outputs), run)


def backward_kernel(
    plan: Plan,
    launch: Launch,
    sections: Operands,
    places: Operands,
    inputs: tuple[Stacked, Incoming],
    outgoing: Outgoing,
) -> None:
    """Body of the backward pass: references to what is read and to what is written."""
    read, incoming = inputs
    operands = references(places, read)
    first = 0 if incoming.first is None else incoming.first[0]
    tiling = launch.tiling
    matrices = [section for section in jax.tree.leaves(sections) if section.is_matrix]
    factors = dict(zip(matrices, outgoing.factors, strict=True)) if tiling.factored else {}
    widest = max(plan.structure.widths)

    def run(members: tuple[int, ...], program: Array) -> None:
        chain = Chain(plan, launch, operands, members)
        carried = tiling.carried and launch.tiles > 1
        initial = empty_carry(sections, members, chain.arithmetic, matrices=not tiling.factored) if carried else {}

        def step(place: Place, carry: tuple[Array, ...]) -> tuple[Array, ...]:
            sums = dict(zip(initial, carry, strict=True))
            if launch.tiles == 1:
                emit = storing(outgoing.slot)
            else:
                emit = carrying(sums) if carried else accumulating(outgoing.slot, place.tile, plan.numbers.barrier)
            if tiling.factored:
                late = widest <= _LATE_FACTORS
                sink = FactorSink(emit, chain.arithmetic, factors, place.target, late=late, folded=carried)
            else:
                late = launch.tiles == 1 and widest <= _LATE_PRODUCTS
                sink = ProductSink(emit, chain.arithmetic, late=late, folded=carried)
            chain.backward(place, sections, incoming, outgoing, sink)
            sink.finish()
            return tuple(sums.values())

        totals = _for_each_tile(launch, program, first, step, tuple(initial.values()))
        store = storing(outgoing.slot)
        for block, total in zip(initial, totals, strict=True):
            store(block, total if block.section.is_matrix else chain.arithmetic.over_folded(total))

    _per_group(launch, len(operands.branches), run)


def _for_each_tile(
    launch: Launch, program: Array, first: Array | int, body: Callable[[Place, object], object], carry: object
) -> object:
    """Call `body(place, carry)` for the tiles of this program and return the last carry."""
    height = launch.tiling.rows

    def step(tile: Array | int, carry: object) -> object:
        start = (tile * launch.programs + program) * height
        source = Rows(first + start, height, launch.count, launch.masked)
        target = Rows(start, height, launch.covered, False) if launch.tiling.padded_factors else source
        return body(Place(tile, source, target), carry)

    return step(0, carry) if launch.tiles == 1 else lax.fori_loop(0, launch.tiles, step, carry)


def _per_group(launch: Launch, branches: int, run: Callable[[tuple[int, ...], Array], None]) -> None:
    """Call `run(members, program)` with the branches of this program's group and its number in the group."""
    # The interpreter knows program_id at the top level of a kernel only.
    number = pl.program_id(0)
    if launch.groups == 1:
        run(tuple(range(branches)), number)
        return
    for index in range(branches):
        pl.when(number % launch.groups == index)(partial(run, (index,), number // launch.groups))
