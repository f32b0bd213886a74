"""The one place that calls Pallas, so that a change of its GPU backend is one edit.

On a GPU the kernels are compiled through Pallas' Triton lowering; on other devices the same kernel bodies run in the
Pallas interpreter, which is slow and meant for tests.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from kernels._sharding import vary_like


def platform() -> str:
    """Return the platform that computations go to: "cpu", "gpu" or "tpu"."""
    device = jax.config.jax_default_device
    name = getattr(device, "platform", device) or jax.default_backend()
    return "gpu" if name in ("cuda", "rocm") else name


def interpreted() -> bool:
    """Return whether kernels run in the Pallas interpreter."""
    return platform() != "gpu"


def barrier() -> None:
    """Wait inside a kernel for the other threads of the program, so that what they stored can be loaded."""
    if not interpreted():
        plt.debug_barrier()


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
    """Return the function that launches `kernel` on `grid`; `num_warps` and `num_stages` are Triton's.

    Inside `jax.shard_map` the outputs vary over every mesh axis that an operand varies over.
    """

    def launch(*operands: jax.Array) -> Any:
        operands = tuple(vary_like(x, *operands) for x in operands)
        axes = jax.typeof(operands[0]).manual_axis_type
        return pl.pallas_call(
            kernel,
            name=name,
            grid=grid,
            in_specs=list(in_specs),
            out_specs=list(out_specs),
            out_shape=[jax.ShapeDtypeStruct(s.shape, s.dtype, manual_axis_type=axes) for s in out_shape],
            input_output_aliases=input_output_aliases or {},
            compiler_params=plt.CompilerParams(num_warps=num_warps, num_stages=num_stages),
            interpret=interpreted(),
        )(*operands)

    return launch
