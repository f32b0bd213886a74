"""Several wide layers forward in one Mosaic GPU kernel, whose weights stay in shared memory."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels._mosaic import plgpu
from kernels._target import Target
from kernels.residual_mlp.activations import value_and_slope
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

# Weights of so many layers fit beside a tile of each warpgroup.
MOST_LAYERS = 5
# What a program can have of shared memory, where arrays begin at multiples of 1024 bytes, and what barriers may take.
_SHARED_BYTES, _ALIGNMENT, _BARRIERS = 232_448, 1024, 128


class MosaicNumbers:
    """Exponentials, reciprocals of positive numbers and logistic functions, as Mosaic GPU has them."""

    logistic_factor = 0.5

    def exp2(self, x: jax.Array) -> jax.Array:
        """Return 2 to the power of `x`."""
        return jnp.exp2(x)

    def reciprocal(self, x: jax.Array) -> jax.Array:
        """Return 1 / `x`: a quotient takes eight instructions, the reciprocal root one."""
        root = jax.lax.rsqrt(x)
        return root * root

    def multiply_add(self, x: jax.Array, factor: Any, term: Any) -> jax.Array:
        """Return `x * factor + term`."""
        return x * factor + term

    def logistic(self, x: jax.Array) -> jax.Array:
        """Return 1 / (1 + exp(-y)), where `x` is y / 2, by the instruction for tanh, which is exact to 2⁻¹¹ of it."""
        return 0.5 + 0.5 * jnp.tanh(x)


class _Memory(NamedTuple):
    places: Places
    weights: Any
    biases: Any


def chain_states(
    x: jax.Array,
    layers: Sequence[Layer],
    weights: Sequence[jax.Array],
    biases: Sequence[jax.Array],
    activation: Activation,
    *,
    every: bool,
    tiling: MosaicTiling,
    target: Target,
) -> list[jax.Array]:
    """Return what the last of at most five layers makes of x `[N, 128]`, or `every` layer; states are bfloat16."""
    rows = Rows.create(len(x), tiling.programs, tiling.warpgroups, _places(len(layers), tiling), target)
    stored = [every or index == len(layers) - 1 for index in range(len(layers))]

    def kernel(read: Any, written: Any, scratch: Any) -> Any:
        x_ref, weights_ref, biases_ref = read
        memory = _Memory(*scratch)
        outputs = dict(zip([index for index, kept in enumerate(stored) if kept], written, strict=True))

        def work(group: Any, program: Any, tiles: Any) -> None:
            def layers_of_tile(number: Any, slot: Any) -> None:
                place, at = memory.places.arrays[0].at[slot], rows.at(number, program)
                for index, layer in enumerate(layers):
                    place_value = _layer(layer, activation, place, memory.weights.at[index], memory.biases.at[index])
                    # All warps have read the tile, and so have copies of it to where it is kept.
                    plgpu.wait_smem_to_gmem(0, wait_read_only=True)
                    place[...] = place_value.astype(jnp.bfloat16)
                    plgpu.commit_smem()
                    if index in outputs:
                        plgpu.copy_smem_to_gmem(place, outputs[index].at[at])
                plgpu.wait_smem_to_gmem(0, wait_read_only=True)

            each_tile(rows, memory.places, group, tiles, layers_of_tile)
            plgpu.wait_smem_to_gmem(0)

        parameters = [(weights_ref, memory.weights), (biases_ref, memory.biases)]
        return [x_ref], parameters, memory.places, work

    scratch = _Memory(
        Places.types(rows, 1, 2), tile(len(layers), rows=WIDTH), plgpu.SMEM((len(layers), WIDTH), jnp.float32)
    )
    arrays = [
        rows.pad(x),
        jnp.stack([weight.astype(jnp.bfloat16) for weight in weights]),
        jnp.stack([bias.astype(jnp.float32) for bias in biases]),
    ]
    found = run(kernel, arrays, [rows.result() for kept in stored if kept], scratch, rows)
    return [state[: len(x)] for state in found]


def _places(layers: int, tiling: MosaicTiling) -> int:
    """Return how many tiles of a warpgroup fit beside the weights and biases of so many layers."""
    biases = -(-4 * layers * WIDTH // _ALIGNMENT) * _ALIGNMENT
    left = _SHARED_BYTES - _BARRIERS - biases - 2 * layers * WIDTH**2
    return min(tiling.places, left // (2 * SIDE * WIDTH * tiling.warpgroups))


def _layer(layer: Layer, activation: Activation, place: Any, weight: Any, bias: Any) -> jax.Array:
    """Return what a layer makes of the tile in `place`, in float32."""
    value = product(place, weight) + across_columns(bias)
    if layer.activated:
        value, _ = value_and_slope(activation, value, MosaicNumbers())
    return value + load_tile(place) if layer.residual else value


def product(left: Any, right: Any) -> jax.Array:
    """Multiply a tile with a matrix, both in shared memory."""

    def multiply(sums: Any) -> jax.Array:
        plgpu.wgmma(sums, left, right)
        return sums[...]

    return pl.run_scoped(multiply, plgpu.ACC((SIDE, right.shape[1]), jnp.float32))
