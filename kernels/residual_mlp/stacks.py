"""Parameters one above the other in a few arrays, so that a launch reads those and not each parameter by itself.

Training keeps all parameters of a model in long vectors. XLA copies what a kernel reads out of such a vector, one copy
for each operand: some twenty for every launch of a block. Parameters that are concatenated again are one copy, and none
where they are neighbours in the vector.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from kernels.residual_mlp.operands import Operands, with_rows, without_rows
from kernels.residual_mlp.tiles import Part, Ref


@dataclass(frozen=True)
class Place:
    """Where a parameter is: in stack number `stack`, from row `start` on."""

    stack: int
    start: int
    shape: tuple[int, ...]


class Stacked(NamedTuple):
    """What a launch reads: the arrays of rows, and stacks `[rows, width]` of parameters, one per width and dtype."""

    x: Array
    skip: Array | None
    stacks: tuple[Array, ...]


def stack_parameters(operands: Operands) -> tuple[Operands, Stacked]:
    """Return the operands with a `Place` for every parameter and none of the rows, and what takes their place."""
    parameters, structure = jax.tree.flatten(without_rows(operands))
    stacks: dict[tuple[int, jnp.dtype], list[Array]] = {}
    rows: dict[tuple[int, jnp.dtype], int] = {}
    places = []
    for parameter in parameters:
        key = parameter.shape[-1], parameter.dtype
        members = stacks.setdefault(key, [])
        start = rows.setdefault(key, 0)
        places.append(Place(list(stacks).index(key), start, parameter.shape))
        members.append(parameter.ravel())
        rows[key] = start + parameter.size // key[0]
    arrays = tuple(jnp.concatenate(members).reshape(-1, width) for (width, _), members in stacks.items())
    skip = None if operands.projection is None else operands.projection.skip
    return structure.unflatten(places), Stacked(operands.x, skip, arrays)


def references(places: Operands, refs: Stacked) -> Operands:
    """Return the operands as a kernel sees them, from the references to what it reads."""

    def part(place: Place) -> Ref:
        return Part(refs.stacks[place.stack], place.start, place.shape)

    return with_rows(jax.tree.map(part, places), refs.x, refs.skip)
