"""The gradients of one wide layer in one Mosaic GPU kernel.

A warpgroup sums the gradient of the weight in the registers of the tensor cores as long as the program runs, and that
of the bias as a product with ones: sums over rows would be exchanged between threads for every tile.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels._mosaic import plgpu, swizzled
from kernels._target import Target
from kernels.residual_mlp.activations import value_and_slope
from kernels.residual_mlp.mosaic_chain import MosaicNumbers, product
from kernels.residual_mlp.mosaic_launch import (
    SIDE,
    WIDTH,
    MosaicTiling,
    Places,
    Rows,
    across_columns,
    each_tile,
    load_tile,
    run,
    tile,
)
from kernels.residual_mlp.operands import Activation, Layer

# The fewest columns of a product.
_ONES = 8
# More warpgroups have no registers for the sums of a weight, and more tiles no places.
_GROUPS = _PLACES = 2


class LayerGradients(NamedTuple):
    """Cotangent of a layer's input `[N, 128]`, and float32 gradients of its weight and bias."""

    x: jax.Array
    weight: jax.Array
    bias: jax.Array


class _Memory(NamedTuple):
    places: Places
    weight: Any
    bias: Any
    ones: Any
    spare: Any


def layer_gradients(
    x: jax.Array,
    cotangent: jax.Array,
    layer: Layer,
    weight: jax.Array,
    bias: jax.Array,
    activation: Activation,
    *,
    tiling: MosaicTiling,
    target: Target,
) -> LayerGradients:
    """Return the gradients of a layer 128 wide, from its input and its output's cotangent, both `[N, 128]` bfloat16."""
    rows = Rows.create(len(x), tiling.programs, _GROUPS, _PLACES, target)

    def kernel(read: Any, written: Any, scratch: Any) -> Any:
        (x_ref, cotangent_ref, *parameters), memory = read, _Memory(*scratch)

        def work(group: Any, program: Any, tiles: Any) -> None:
            def sums(weight_sums: Any, bias_sums: Any) -> None:
                body = partial(
                    _tile, layer, activation, rows, memory, group, program, written[0], weight_sums, bias_sums
                )
                each_tile(rows, memory.places, group, tiles, body)
                own = program * _GROUPS + group
                written[1].at[own][...] = plgpu.wgmma_accumulator_load(weight_sums)
                written[2].at[own][...] = plgpu.wgmma_accumulator_load(bias_sums)

            pl.run_scoped(sums, plgpu.ACC((WIDTH, WIDTH), jnp.float32), plgpu.ACC((WIDTH, _ONES), jnp.float32))
            plgpu.wait_smem_to_gmem(0)

        kept = [memory.weight, memory.bias, memory.ones]
        return [x_ref, cotangent_ref], list(zip(parameters, kept, strict=True)), memory.places, work

    scratch = _Memory(
        Places.types(rows, 2, 3),
        tile(rows=WIDTH),
        plgpu.SMEM((WIDTH,), jnp.float32),
        plgpu.SMEM((_ONES, SIDE), jnp.bfloat16, transforms=swizzled(SIDE, jnp.bfloat16, SIDE)),
        tile(_GROUPS),
    )
    groups = rows.programs * _GROUPS
    outputs = [
        rows.result(),
        jax.ShapeDtypeStruct((groups, WIDTH, WIDTH), jnp.float32),
        jax.ShapeDtypeStruct((groups, WIDTH, _ONES), jnp.float32),
    ]
    arrays = [
        rows.pad(x),
        rows.pad(cotangent),
        weight.astype(jnp.bfloat16),
        bias.astype(jnp.float32),
        jnp.ones((_ONES, SIDE), jnp.bfloat16),
    ]
    passed, weights, biases = run(kernel, arrays, outputs, scratch, rows)
    return LayerGradients(passed[: len(x)], jnp.sum(weights, axis=0), jnp.sum(biases[:, :, 0], axis=0))


def _tile(
    layer: Layer,
    activation: Activation,
    rows: Rows,
    memory: _Memory,
    group: Any,
    program: Any,
    passed: Any,
    weight_sums: Any,
    bias_sums: Any,
    number: Any,
    slot: Any,
) -> None:
    """Go back through one tile: write the cotangent of its rows, and add to the sums."""
    x, cotangent = (array.at[slot] for array in memory.places.arrays)
    inner, result = cotangent, memory.spare.at[group]
    if layer.activated:
        inner, result = result, inner
        _, slope = value_and_slope(activation, product(x, memory.weight) + across_columns(memory.bias), MosaicNumbers())
        inner[...] = (load_tile(cotangent) * slope).astype(jnp.bfloat16)
        plgpu.commit_smem()

    def go_back(sums: Any) -> None:
        plgpu.wgmma(sums, inner, memory.weight.transpose((1, 0)))
        plgpu.wgmma(weight_sums, x.transpose((1, 0)), inner)
        plgpu.wgmma(bias_sums, inner.transpose((1, 0)), memory.ones.transpose((1, 0)))
        value = plgpu.wgmma_accumulator_load(sums, wait_n=2)
        if layer.residual:
            value = value + load_tile(cotangent)
        result[...] = value.astype(jnp.bfloat16)
        plgpu.commit_smem()
        plgpu.copy_smem_to_gmem(result, passed.at[rows.at(number, program)])
        plgpu.wgmma_wait(0)

    pl.run_scoped(go_back, plgpu.ACC((SIDE, WIDTH), jnp.float32))
    # All warps have finished their products, and the copy has read its tile.
    plgpu.wait_smem_to_gmem(0, wait_read_only=True)
