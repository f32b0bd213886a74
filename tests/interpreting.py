"""Smaller programs of Pallas' interpreter, whose bookkeeping is most of what is compiled of an interpreted kernel."""

import threading
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np


def interpret_briefly() -> None:
    """Let JAX 0.10 interpret kernels in half of the operations; call it once JAX is imported.

    What a kernel computes is not concerned. Left out is what never changes a number: a second, wrapped-around way for
    every index of every block, which is never negative, writing back blocks that a kernel only reads, and a margin
    around blocks that are loaded or stored as a whole. A negative index within a kernel, which on a GPU reads what lies
    before an array, is the first one instead of one from the end. Another version of JAX is left as it is.
    """
    if not version("jax").startswith("0.10."):
        return
    from jax._src.lax import slicing
    from jax._src.pallas import hlo_interpreter, primitives
    from jax._src.state import discharge

    for primitive, short in ((primitives.load_p, _load_all), (primitives.swap_p, _store_all)):
        discharge.register_discharge_rule(primitive)(_where_all(discharge._discharge_rules[primitive], short))
    blocks = _Blocks()
    hlo_interpreter._dynamic_slice = blocks.read
    hlo_interpreter._dynamic_update_slice = blocks.write
    hlo_interpreter._get_next_indices = blocks.next_program
    hlo_interpreter.kernel_to_hlo_jaxpr = _keeping_what_is_read(hlo_interpreter.kernel_to_hlo_jaxpr, slicing)


class _Blocks(threading.local):
    """The blocks that a program of the grid sees, while the loop over the programs is traced: in one thread."""

    def __init__(self) -> None:
        self._seen: list[tuple[Any, Any]] = []  # array and block

    def read(self, start: Sequence[Any], shape: tuple[int, ...], array: Any, squeezed: Sequence[bool]) -> Any:
        """Return the block of the array."""
        from jax import lax

        block = lax.dynamic_slice(array, _indices(start), shape, allow_negative_indices=False)
        block = lax.squeeze(block, np.flatnonzero(squeezed))
        self._seen.append((array, block))
        return block

    def write(
        self, start: Sequence[Any], shape: tuple[int, ...], array: Any, block: Any, squeezed: Sequence[bool]
    ) -> Any:
        """Return the array with the block, itself where that is the one which was read."""
        from jax import lax

        if any(array is of and block is read for of, read in self._seen):
            return array
        block = lax.expand_dims(block, np.flatnonzero(squeezed))
        assert block.shape == shape
        return lax.dynamic_update_slice(array, block, _indices(start), allow_negative_indices=False)

    def next_program(self, grid: Sequence[Any], indices: Sequence[Any]) -> tuple[Any, ...]:
        """Return the indices of the next program of the grid, the last of which varies fastest."""
        from jax import lax

        self._seen.clear()
        carry: Any = np.int32(1)
        found = []
        for size, index in zip(reversed(grid), reversed(indices), strict=True):
            if isinstance(size, int) and size == 1:
                found.append(index)
                continue
            index = lax.add(index, carry)
            ended = lax.eq(index, lax.convert_element_type(size, np.int32))
            found.append(lax.select(ended, np.int32(0), index))
            carry = lax.convert_element_type(ended, np.int32)
        return tuple(reversed(found))


def _where_all(rule: Callable[..., Any], short: Callable[..., Any]) -> Callable[..., Any]:
    """Return the rule for operations on references, with the `short` one where all of a reference is concerned."""

    def operation(types: Any, results: Any, *operands: Any, args_tree: Any, **parameters: Any) -> Any:
        array, transforms, *rest = args_tree.unflatten(operands)
        if not all(_selects_all(x, array.shape) for x in transforms):
            return rule(types, results, *operands, args_tree=args_tree, **parameters)
        after, result = short(array, *rest)
        return (after, *[None] * (len(types) - 1)), result

    return operation


def _selects_all(transform: Any, shape: tuple[int, ...]) -> bool:
    """Return whether a transform of a reference is the index of all of it, in the order in which it lies there."""
    from jax.experimental.pallas import Slice

    indices = getattr(transform, "indices", None)
    return indices is not None and all(
        isinstance(x, Slice) and isinstance(x.start, int) and (x.start, x.size, x.stride) == (0, size, 1)
        for x, size in zip(indices, shape, strict=True)
    )


def _load_all(array: Any, mask: Any, other: Any) -> tuple[None, Any]:
    import jax.numpy as jnp

    return None, array if mask is None or other is None else jnp.where(mask, array, other)


def _store_all(array: Any, value: Any, mask: Any) -> tuple[Any, Any]:
    import jax.numpy as jnp

    return (value, array) if mask is None else (jnp.where(mask, value, array), jnp.where(mask, array, value))


def _indices(start: Sequence[Any]) -> list[Any]:
    from jax import lax

    return [np.int32(x) if isinstance(x, int) else lax.convert_element_type(x, np.int32) for x in start]


def _keeping_what_is_read(make: Callable[..., Any], slicing: Any) -> Callable[..., Any]:
    """Return the function that makes operations of a kernel, so that they give what they only read as it was."""
    from jax._src.state.types import AccumEffect, WriteEffect

    wrapping, thread = slicing._dynamic_slice_indices, threading.local()

    def of_this_thread(operand: Any, start: Any, allow_negative_indices: Any) -> Any:
        in_a_kernel = getattr(thread, "in_a_kernel", False)
        return wrapping(operand, start, False if in_a_kernel else allow_negative_indices)

    slicing._dynamic_slice_indices = of_this_thread

    def operations(jaxpr: Any, consts: Any, grid_mapping: Any) -> Any:
        thread.in_a_kernel = True
        try:
            made, consts, scratch = make(jaxpr, consts, grid_mapping)
        finally:
            thread.in_a_kernel = False
        written = {x.input for x in jaxpr.effects if isinstance(x, WriteEffect | AccumEffect)}
        assert written <= {*jaxpr.invars}
        kept = [
            after if reference in written else before
            for reference, before, after in zip(jaxpr.invars, made.invars, made.outvars, strict=True)
        ]
        return made.replace(outvars=kept), consts, scratch

    return operations
