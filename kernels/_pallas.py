"""The one place that calls Pallas, so that a change of its GPU backend is one edit.

On a GPU the kernels are compiled through Pallas' Triton lowering; on other devices the same kernel bodies run in the
Pallas interpreter, which is slow and meant for tests.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt


def pallas_call(
    kernel: Callable[..., None],
    *,
    name: str,
    grid: tuple[int, ...],
    in_specs: Sequence[pl.BlockSpec],
    out_specs: Sequence[pl.BlockSpec],
    out_shape: Sequence[jax.ShapeDtypeStruct],
    num_warps: int = 4,
    num_stages: int = 2,
    input_output_aliases: dict[int, int] | None = None,
) -> Callable[..., Any]:
    """Return the function that launches `kernel` on `grid`; `num_warps` and `num_stages` are Triton's."""
    return pl.pallas_call(
        kernel,
        name=name,
        grid=grid,
        in_specs=list(in_specs),
        out_specs=list(out_specs),
        out_shape=list(out_shape),
        input_output_aliases=input_output_aliases or {},
        compiler_params=plt.CompilerParams(num_warps=num_warps, num_stages=num_stages),
        interpret=jax.default_backend() != "gpu",
    )
