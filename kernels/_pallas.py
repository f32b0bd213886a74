"""The one place that calls Pallas, so that a change of its GPU backend is one edit.

On a GPU the kernels are compiled through Pallas' Triton lowering; on other devices the same kernel bodies run in the
Pallas interpreter, which is slow and meant for tests.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
from jax.experimental import pallas as pl

from kernels._sharding import result_like
from kernels._target import Target
from kernels._triton_lowering import plt


@dataclass(frozen=True)
class Operand:
    """An array that a kernel reads, and the block of it that a program sees; all of it by default."""

    array: jax.Array
    spec: pl.BlockSpec = field(default_factory=pl.BlockSpec)


@dataclass(frozen=True)
class Output:
    """An array that a kernel writes: shape, dtype, and the block of it that a program sees; all of it by default."""

    shape: tuple[int, ...]
    dtype: Any
    spec: pl.BlockSpec = field(default_factory=pl.BlockSpec)


def pallas_call(
    kernel: Callable[[Any, Any], None],
    *,
    target: Target,
    name: str,
    grid: tuple[int, ...],
    inputs: Any,
    outputs: Any,
    warps: int = 4,
    stages: int = 2,
    earlier: Any = None,
) -> Any:
    """Run `kernel(references to the inputs, references to the outputs)` on `grid` and return the tree of outputs.

    `inputs` is a tree of `Operand`, `outputs` one of `Output`; `warps` and `stages` are Triton's. `earlier`, a tree
    like the result, holds the outputs of an earlier launch, which this one completes where they are.
    """
    operands, structure = jax.tree.flatten(inputs)
    results, result_structure = jax.tree.flatten(outputs)
    completed = jax.tree.leaves(earlier)

    def flat(*refs: Any) -> None:
        read, written = refs[: len(operands)], refs[len(operands) + len(completed) :]
        kernel(structure.unflatten(read), result_structure.unflatten(written))

    arrays = [x.array for x in operands] + completed
    specs = [x.spec for x in operands] + [x.spec for x in results][: len(completed)]
    values = pl.pallas_call(
        flat,
        name=name,
        grid=grid,
        in_specs=specs,
        out_specs=[x.spec for x in results],
        out_shape=[result_like(arrays[0], x.shape, x.dtype) for x in results],
        input_output_aliases={len(operands) + i: i for i in range(len(completed))},
        compiler_params=plt.CompilerParams(num_warps=warps, num_stages=stages),
        interpret=not target.compiled,
    )(*arrays)
    return result_structure.unflatten(values)
