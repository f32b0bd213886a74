"""Storing parameters in a few long vectors, one per weight-decay group.

A FLARE model has some 300 small arrays. An elementwise optimizer on them is hundreds of tiny GPU kernels; on two
vectors it is a handful. Groups that need matrices (Muon) are stacks of the arrays of one shape, so that a product of
matrices is one kernel for all of them.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Params = dict[str, Array]
Packed = dict[str, "Array | Params"]
FROZEN = "frozen"  # the group of parameters that are not trained


@dataclass(frozen=True)
class Packing:
    """Which parameters form which group, with their shapes; `matrices` names the groups that keep their shapes."""

    groups: Mapping[str, tuple[str, ...]]
    shapes: Mapping[str, tuple[int, ...]]
    matrices: frozenset[str] = frozenset()

    @property
    def count(self) -> int:
        """The number of all parameters."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def pack(self, params: Params, arrays: Any = jnp) -> Packed:
        """Return one vector, or a dictionary of stacks, per non-empty group; on the host where `arrays` is NumPy."""
        packed: Packed = {}
        for group, names in self.groups.items():
            if group in self.matrices:
                stacks = self._stacks(names).items()
                packed[group] = {shape: arrays.stack([params[name] for name in stack]) for shape, stack in stacks}
            else:
                packed[group] = arrays.concatenate([arrays.ravel(params[name]) for name in names])
        return packed

    @cached_property
    def unpack_now(self) -> Callable[[Packed], Params]:
        """`unpack` as a program of its own, for what is not traced: else every cut would be one, to be compiled."""
        return jax.jit(self.unpack)

    def unpack(self, packed: Packed) -> Params:
        """Undo `pack`, on the host where the arrays are there."""
        params: Params = {}
        for group, names in self.groups.items():
            if group in self.matrices:
                for shape, stack in self._stacks(names).items():
                    params.update(zip(stack, packed[group][shape], strict=True))
                continue
            start = 0
            for name in names:
                size = math.prod(self.shapes[name])
                params[name] = packed[group][start : start + size].reshape(self.shapes[name])
                start += size
        return params

    def _stacks(self, names: tuple[str, ...]) -> dict[str, list[str]]:
        """Return the parameters of each shape, such as "64x128"."""
        stacks: dict[str, list[str]] = {}
        for name in names:
            stacks.setdefault("x".join(map(str, self.shapes[name])), []).append(name)
        return stacks


def make_packing(params: Params, labels: Mapping[str, str], matrices: frozenset[str] = frozenset()) -> Packing:
    """Return the packing that puts each parameter into the group of its label."""
    groups: dict[str, tuple[str, ...]] = {}
    for name in sorted(params):
        groups[labels[name]] = (*groups.get(labels[name], ()), name)
    return Packing(groups, {name: tuple(np.shape(value)) for name, value in params.items()}, matrices)
