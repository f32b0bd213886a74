"""Which implementation runs, and how it is tiled: one table by width, rows and arithmetic.

The table is for NVIDIA GPUs of compute capability 9 and 10, whose shared memory holds the weights of a narrow MLP.
`python -m benchmarks.residual_mlp --search` measures its alternatives.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from kernels._pallas import platform
from kernels.residual_mlp.operands import Operands, Structure
from kernels.residual_mlp.plan import Plan, Tiling
from kernels.residual_mlp.tiles import SMALLEST_BLOCK, padded

IMPLEMENTATIONS = ("reference", "pallas")
LARGEST_WIDTH = 256
# A deeper branch keeps more states than the registers hold, and compiles for minutes.
_DEEPEST_AUTOMATIC = 12
_SHARED_MEMORY_BYTES = 227 * 1024
# Shared memory that a program needs beside resident weights: operand tiles and layout conversions.
_WORKSPACE_BYTES = 32 * 1024
# Weight gradients that a thread carries in registers leave room for the rest of the chain up to this many.
_CARRIED_REGISTERS = 96
_PROCESSORS = 132


@dataclass(frozen=True)
class Choice:
    """Tilings for MLPs up to a width and a number of rows times branches; None where XLA is faster.

    `separate`: with many rows the two branches of one kernel, in different programs, take longer than two kernels.
    """

    arithmetic: tuple[str, ...]
    width: int
    rows: int | float
    forward: Tiling | None
    backward: Tiling | None
    separate: bool = False


# One wave of 16-row or of 32-row tiles on an H100.
_ONE_WAVE_16, _ONE_WAVE_32 = 16 * _PROCESSORS, 32 * _PROCESSORS
_FAST = ("bf16", "tf32")
_TABLE = (
    Choice(
        _FAST,
        64,
        _ONE_WAVE_16,
        Tiling(rows=16, warps=8, resident=True),
        Tiling(rows=16, warps=8, resident=True),
    ),
    Choice(
        _FAST,
        64,
        _ONE_WAVE_32,
        Tiling(rows=16, warps=8, resident=True),
        Tiling(rows=32, warps=8, resident=True),
    ),
    Choice(
        _FAST,
        64,
        131072,
        Tiling(rows=32, warps=8, resident=True, programs=2 * _PROCESSORS),
        Tiling(rows=32, warps=8, resident=True, programs=_PROCESSORS, carried=True),
    ),
    Choice(
        ("bf16",),
        64,
        math.inf,
        Tiling(rows=128, warps=8, resident=True, programs=2 * _PROCESSORS),
        Tiling(rows=32, warps=8, resident=True, programs=_PROCESSORS, carried=True),
    ),
    Choice(
        ("tf32",),
        64,
        math.inf,
        Tiling(rows=64, warps=4, resident=True, programs=2 * _PROCESSORS),
        Tiling(rows=32, warps=8, resident=True, programs=_PROCESSORS, carried=True),
    ),
    Choice(_FAST, 128, _ONE_WAVE_16, Tiling(rows=16, warps=8), Tiling(rows=16, warps=8)),
    Choice(_FAST, 128, _ONE_WAVE_32, Tiling(rows=16, warps=8), Tiling(rows=32, warps=8)),
    Choice(
        ("bf16",),
        128,
        math.inf,
        Tiling(rows=64, warps=8, resident=True, transposed=True, precast=True, programs=_PROCESSORS),
        Tiling(
            rows=32,
            warps=8,
            resident=True,
            transposed=True,
            precast=True,
            factored=True,
            carried=True,
            programs=_PROCESSORS,
        ),
        separate=True,
    ),
    # Float32 weights of this width do not fit shared memory: with gradients XLA takes 0.5 to 0.9 of the time.
    Choice(("tf32",), 128, math.inf, None, None),
    Choice(
        ("bf16",),
        LARGEST_WIDTH,
        math.inf,
        Tiling(rows=64, warps=8, transposed=True, precast=True),
        Tiling(rows=32, warps=8, transposed=True, precast=True, factored=True, carried=True, programs=4096),
    ),
    Choice(
        ("tf32",),
        LARGEST_WIDTH,
        math.inf,
        Tiling(rows=32, warps=8, transposed=True),
        Tiling(rows=16, warps=8, transposed=True, factored=True, carried=True, programs=4096),
    ),
    # Exact float32 products run outside the tensor cores, where larger widths and many rows belong to XLA.
    Choice(("float32",), 64, 8192, Tiling(rows=16, warps=8), Tiling(rows=16, warps=8)),
    Choice(("float32",), LARGEST_WIDTH, math.inf, None, None),
)
# What the kernels run with when they are named although the table leaves the work to XLA.
_GENERAL = Tiling(rows=16, warps=8, programs=4 * _PROCESSORS)


_FORCED: ContextVar[tuple[Tiling, Tiling, bool] | None] = ContextVar("forced_tilings", default=None)


@contextmanager
def forced_tilings(forward: Tiling, backward: Tiling, separate: bool = False) -> Iterator[None]:
    """Trace the fused kernels with this plan, whether it suits or not; for tests and the search of the table."""
    token = _FORCED.set((forward, backward, separate))
    try:
        yield
    finally:
        _FORCED.reset(token)


def choose(
    implementation: Any, structure: Structure, operands: Operands, precision: lax.Precision | None
) -> Plan | None:
    """Return the plan of the fused kernels, or None for the reference; a named implementation may raise ValueError."""
    if implementation not in (None, *IMPLEMENTATIONS):
        raise ValueError(
            f"implementation is {implementation!r}; "
            f"give one of {', '.join(IMPLEMENTATIONS)}, or None to choose by shape."
        )
    if implementation == "reference":
        return None
    obstacle = _obstacle(structure, operands, precision)
    if obstacle is not None:
        if implementation is None:
            return None
        raise ValueError(f"implementation 'pallas' cannot serve {obstacle}; use 'reference' or None.")
    if (forced := _FORCED.get()) is not None:
        return Plan(structure, precision, *forced)
    found = _find(structure, operands, precision)
    if implementation is None and (found.forward is None or not _suits_device(structure)):
        return None
    forward, backward = found.forward or _GENERAL, found.backward or _GENERAL
    # A pass that ends in 16 columns makes Triton repeat the products of row tiles in all warps: 3 times the code.
    if min(layers[-1].outputs for layers in structure.branches) <= SMALLEST_BLOCK:
        forward = replace(forward, transposed=True)
    if structure.inputs <= SMALLEST_BLOCK:
        backward = replace(backward, transposed=True)
    return Plan(
        structure,
        precision,
        forward=_fit(forward, structure, operands, copies=1),
        # The backward pass multiplies with both orientations of a weight; 16-bit tensor cores read them from one copy.
        backward=_fit(backward, structure, operands, copies=1 if operands.x.dtype == jnp.bfloat16 else 2),
        separate=found.separate,
    )


def _obstacle(structure: Structure, operands: Operands, precision: lax.Precision | None) -> str | None:
    """Say what the fused kernels cannot do, if anything."""
    x = operands.x
    if x.dtype not in (jnp.float32, jnp.bfloat16):
        return f"x of dtype {x.dtype}, only float32 and bfloat16"
    if x.size == 0:
        return f"x of shape {x.shape}, which is empty"
    if max(structure.widths) > LARGEST_WIDTH:
        return f"width {max(structure.widths)}, only up to {LARGEST_WIDTH}"
    if precision is None:
        return f"the configured matmul precision {jax.config.jax_default_matmul_precision!r}"
    return None


def _find(structure: Structure, operands: Operands, precision: lax.Precision) -> Choice:
    if operands.x.dtype == jnp.bfloat16:
        arithmetic = "bf16"
    else:
        arithmetic = "float32" if precision == lax.Precision.HIGHEST else "tf32"
    width = max(structure.widths)
    rows = operands.x.size // structure.inputs * len(structure.branches)
    return next(
        choice for choice in _TABLE if arithmetic in choice.arithmetic and width <= choice.width and rows <= choice.rows
    )


def _suits_device(structure: Structure) -> bool:
    """Return whether the table is meant for this device, and the MLP not too deep for its registers."""
    if platform() != "gpu" or max(map(len, structure.branches)) > _DEEPEST_AUTOMATIC:
        return False
    capability = getattr(jax.local_devices(backend="gpu")[0], "compute_capability", "0")
    return str(capability).split(".")[0] in ("9", "10")


def _fit(tiling: Tiling, structure: Structure, operands: Operands, copies: int) -> Tiling:
    """Give up resident weights and carried gradients that would not fit into shared memory and registers."""
    elements = [
        sum(padded(layer.inputs, tiling.columns) * padded(layer.outputs, tiling.columns) for layer in layers)
        for layers in structure.branches
    ]
    largest = max(elements) if tiling.parallel else sum(elements)
    if operands.projection is not None:
        largest += padded(structure.inputs, tiling.columns) * padded(structure.stream, tiling.columns)
    fits = copies * largest * operands.x.dtype.itemsize + _WORKSPACE_BYTES <= _SHARED_MEMORY_BYTES
    carried = tiling.carried and (tiling.factored or largest <= _CARRIED_REGISTERS * 32 * tiling.warps)
    return replace(tiling, resident=tiling.resident and fits, carried=carried)
