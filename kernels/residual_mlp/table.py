"""The table of the residual MLP: what its implementations serve, which one runs where, and how its kernels are cut.

Its rows are for one arithmetic, "bf16", "tf32" or "float32", in the place of a dtype, for the widest layer, and for
numbers of rows times branches. `python -m benchmarks.search --op=residual_mlp` times other tilings.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax import lax

from kernels._implementation import Implementation, Request
from kernels._operation import H100, H200, Choice, Launch, Operation, Served
from kernels._target import Target
from kernels._tile_products import Products
from kernels._tiles import SMALLEST_SIDE
from kernels.residual_mlp.mosaic import serves
from kernels.residual_mlp.mosaic_launch import MosaicTiling
from kernels.residual_mlp.operands import Operands, Structure
from kernels.residual_mlp.plan import Plan, Tiling
from kernels.residual_mlp.tiles import padded

LARGEST_WIDTH = 256
# Heads that a norm inside of the kernels may have: within the blocks that wide layers are cut into.
LARGEST_HEAD = 128
# A deeper branch keeps more states than the registers hold, and compiles for minutes.
_DEEPEST_AUTOMATIC = 12
_H100_SHARED_MEMORY = 227 * 1024
# Shared memory that a program needs beside resident weights: operand tiles and layout conversions.
_WORKSPACE_BYTES = 32 * 1024
# Weight gradients that a thread carries in registers leave room for the rest of the chain up to this many.
_CARRIED_REGISTERS = 96
_PROCESSORS = 132
# What the rows for 64 channels were measured with: a FLARE block of that width, five layers and a projection.
_NARROW, _NARROW_WEIGHTS = 64, 6 * 64**2
_FAST = ("bf16", "tf32")
_ARITHMETIC = (*_FAST, "float32")
# One wave of 16-row or of 32-row tiles on an H100.
_ONE_WAVE_16, _ONE_WAVE_32 = 16 * _PROCESSORS, 32 * _PROCESSORS


@dataclass(frozen=True)
class Blocks:
    """The tilings of both passes.

    `separate`: with many rows the two branches of one kernel, in different programs, take longer than two kernels.
    `states` is the tiling of the forward launches of a backward pass with a `depth` (`segments.py`), by default that
    of the forward pass. `mosaic` is that of Mosaic GPU's kernels, which take the place of all others for the calls that
    they serve on GPUs that they were written for; None where they do not.
    """

    forward: Tiling
    backward: Tiling
    separate: bool = False
    states: Tiling | None = None
    mosaic: MosaicTiling | None = None


def _choices(arithmetic: str, width: int, rows: int | None = None, implementation: str = "pallas") -> Choice:
    # For GPUs whose shared memory holds the weights of a narrow MLP: compute capability 9 and 10.
    return Choice(
        implementation, (arithmetic,), width, rows, capability=(9, 0), shared_memory=227 * 1024, measured=H100
    )


def _rows(
    arithmetics: tuple[str, ...],
    width: int,
    rows: int | None,
    forward: Tiling,
    backward: Tiling,
    *,
    separate: bool = False,
    states: Tiling | None = None,
    mosaic: MosaicTiling | None = None,
    measured: str = H100,
) -> tuple[Launch, ...]:
    blocks = Blocks(forward, backward, separate, states, mosaic)
    return tuple(Launch(arithmetic, width, blocks, rows, measured=measured) for arithmetic in arithmetics)


_WIDE = {"resident": True, "transposed": True, "precast": True}
# What the kernels run with when they are named although the table leaves the work to XLA.
_GENERAL = Tiling(rows=16, warps=8, programs=4 * _PROCESSORS)

OPERATION = Operation(
    "residual_mlp",
    implementations=(
        Implementation("reference", _ARITHMETIC),
        Implementation("pallas", _ARITHMETIC, LARGEST_WIDTH, ("cpu", "cuda", "rocm"), pallas_triton=True),
    ),
    choices=(
        _choices("bf16", LARGEST_WIDTH),
        _choices("tf32", 64),
        _choices("tf32", 128, _ONE_WAVE_32),
        # Float32 weights of this width do not fit shared memory: with gradients XLA takes 0.5 to 0.9 of the time.
        _choices("tf32", 128, implementation="reference"),
        _choices("tf32", LARGEST_WIDTH),
        # Exact float32 products run outside the tensor cores, where larger widths and many rows belong to XLA.
        _choices("float32", 64, 8192),
    ),
    launches=(
        *_rows(
            _FAST,
            64,
            _ONE_WAVE_16,
            Tiling(rows=16, warps=8, resident=True),
            Tiling(rows=16, warps=8, resident=True),
        ),
        *_rows(
            ("bf16",),
            64,
            _ONE_WAVE_32,
            Tiling(rows=16, warps=8, resident=True),
            Tiling(rows=32, warps=8, resident=True),
        ),
        # Key and value branches of elasticity: its step takes 0.855 ms, and 0.894 with products in the same kernel.
        *_rows(
            ("tf32",),
            64,
            _ONE_WAVE_32,
            Tiling(rows=16, warps=8),
            Tiling(rows=16, warps=8, factored=True, parts=16),
            measured=H200,
        ),
        *_rows(
            _FAST,
            64,
            131072,
            Tiling(rows=32, warps=8, resident=True, programs=2 * _PROCESSORS),
            Tiling(rows=32, warps=8, resident=True, programs=_PROCESSORS, carried=True),
        ),
        *_rows(
            ("bf16",),
            64,
            None,
            Tiling(rows=128, warps=8, resident=True, programs=2 * _PROCESSORS),
            Tiling(rows=32, warps=8, resident=True, programs=_PROCESSORS, carried=True),
        ),
        *_rows(
            ("tf32",),
            64,
            None,
            Tiling(rows=64, warps=4, resident=True, programs=2 * _PROCESSORS),
            Tiling(rows=32, warps=8, resident=True, programs=_PROCESSORS, carried=True),
        ),
        *_rows(_FAST, 128, _ONE_WAVE_16, Tiling(rows=16, warps=8), Tiling(rows=16, warps=8)),
        *_rows(_FAST, 128, _ONE_WAVE_32, Tiling(rows=16, warps=8), Tiling(rows=32, warps=8)),
        # The FLARE layer of a million points, 128 latents, with gradients: 8.66 ms, without Mosaic GPU's kernels 12.6.
        *_rows(
            ("bf16",),
            128,
            None,
            Tiling(rows=64, warps=8, programs=_PROCESSORS, **_WIDE),
            Tiling(rows=64, warps=8, stages=3, programs=_PROCESSORS, depth=1, carried=True, **_WIDE),
            states=Tiling(rows=64, warps=4, stages=3, programs=4 * _PROCESSORS, **_WIDE),
            separate=True,
            mosaic=MosaicTiling(fewest=2**19),
            measured=H200,
        ),
        *_rows(("tf32",), 128, None, _GENERAL, _GENERAL),
        *_rows(
            ("bf16",),
            LARGEST_WIDTH,
            None,
            Tiling(rows=64, warps=8, transposed=True, precast=True),
            Tiling(rows=32, warps=8, transposed=True, precast=True, factored=True, carried=True, programs=4096),
        ),
        *_rows(
            ("tf32",),
            LARGEST_WIDTH,
            None,
            Tiling(rows=32, warps=8, transposed=True),
            Tiling(rows=16, warps=8, transposed=True, factored=True, carried=True, programs=4096),
        ),
        *_rows(("float32",), 64, 8192, Tiling(rows=16, warps=8), Tiling(rows=16, warps=8)),
        *_rows(("float32",), LARGEST_WIDTH, None, _GENERAL, _GENERAL),
    ),
    fallback="reference",
)


def obstacle(structure: Structure, operands: Operands, precision: lax.Precision | None) -> str | None:
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


def too_deep(structure: Structure) -> bool:
    """Return whether the kernels would compile for minutes, so that they have to be named."""
    return max(map(len, structure.branches)) > _DEEPEST_AUTOMATIC


def request_for(structure: Structure, operands: Operands, precision: lax.Precision) -> Request:
    """Return what a call asks for."""
    if operands.x.dtype == jnp.bfloat16:
        arithmetic = "bf16"
    else:
        arithmetic = "float32" if precision == lax.Precision.HIGHEST else "tf32"
    rows = operands.x.size // structure.inputs * len(structure.branches)
    return Request(arithmetic, _width(structure), rows)


def _width(structure: Structure) -> int:
    """Return the widest layer, or 64 where only hidden layers are wider and all weights fit where those of 64 do."""
    ends = (structure.inputs, structure.stream, *(branch[-1].outputs for branch in structure.branches))
    projection = structure.inputs * structure.stream
    weights = projection + max(sum(x.inputs * x.outputs for x in branch) for branch in structure.branches)
    widest = max(structure.widths)
    return _NARROW if max(ends) <= _NARROW and widest <= 2 * _NARROW and weights <= _NARROW_WEIGHTS else widest


def plan_for(
    served: Served,
    structure: Structure,
    operands: Operands,
    precision: lax.Precision,
    target: Target,
    states: bool = False,
) -> Plan:
    """Return the plan of the fused kernels on the target; with `states` its forward pass is part of a backward pass."""
    blocks = served.blocks
    forward, backward = (
        replace(tiling, programs=max(1, tiling.programs // target.copies))
        for tiling in ((states and blocks.states) or blocks.forward, blocks.backward)
    )
    together = _read_once(structure, operands, target)
    if together:
        forward, backward = replace(forward, parallel=False), replace(backward, parallel=False)
    # A pass that ends in 16 columns makes Triton repeat the products of row tiles in all warps: 3 times the code.
    if min(layers[-1].outputs for layers in structure.branches) <= SMALLEST_SIDE:
        forward = replace(forward, transposed=True)
    if structure.inputs <= SMALLEST_SIDE:
        backward = replace(backward, transposed=True)
    return Plan(
        structure,
        precision,
        Products(target.compiled, cuda=target.platform == "cuda"),
        forward=_fit(forward, structure, operands, target, copies=1),
        # The backward pass multiplies with both orientations of a weight; 16-bit tensor cores read them from one copy.
        backward=_fit(backward, structure, operands, target, copies=1 if operands.x.dtype == jnp.bfloat16 else 2),
        separate=served.blocks.separate and not together,
        mosaic=blocks.mosaic if blocks.mosaic and serves(structure, operands, blocks.mosaic, target) else None,
    )


def _read_once(structure: Structure, operands: Operands, target: Target) -> bool:
    """Return whether each program does all branches: of many rows, single layers take less time than reading x does."""
    rows = operands.x.size // structure.inputs * target.copies
    return all(len(layers) == 1 for layers in structure.branches) and rows > _ONE_WAVE_32


def _fit(tiling: Tiling, structure: Structure, operands: Operands, target: Target, copies: int) -> Tiling:
    """Give up resident weights and carried gradients that would not fit into shared memory and registers."""
    elements = [
        sum(padded(layer.inputs, tiling.columns) * padded(layer.outputs, tiling.columns) for layer in layers)
        for layers in structure.branches
    ]
    largest = max(elements) if tiling.parallel else sum(elements)
    if operands.projection is not None:
        largest += padded(structure.inputs, tiling.columns) * padded(structure.stream, tiling.columns)
    # Interpreted kernels are planned as for an H100, so that tests run what it runs.
    memory = target.shared_memory if target.platform == "cuda" else _H100_SHARED_MEMORY
    fits = copies * largest * operands.x.dtype.itemsize + _WORKSPACE_BYTES <= memory
    carried = tiling.carried and (tiling.factored or largest <= _CARRIED_REGISTERS * 32 * tiling.warps)
    return replace(tiling, resident=tiling.resident and fits, carried=carried)
