"""One Mosaic GPU kernel for three of the mixer's passes: rows read a stream of keys and values (README.md, "Kernels").

Of the gather the rows are latents and the stream points, of the scatter the other way round; the latents' gradient is a
gather with weights whose normalisation is known. Warpgroups multiply tiles of 64 rows with tiles that one more fetches
ahead of them, and compute the weights of one while the tensor cores work on another.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from kernels._mosaic import COPYING_REGISTERS, orders, plgpu, split, split_in_kernel
from kernels._scales import Exponent, head_numbers, logit_factor, power_of_two, weight_exponent
from kernels._target import Target
from kernels._tiles import LOG2_E, LOWEST, padded_width
from kernels.flare_mixer.mosaic_launch import (
    SIDE,
    Place,
    Shape,
    Tiles,
    across_columns,
    across_rows,
    as_left_factor,
    launch,
    row_numbers,
    row_tiles,
    start_product,
    streamed_numbers,
    streamed_tile,
    weights_memory,
    zeros,
)


class Result(NamedTuple):
    """Of each of the splits of the stream: values `[B, splits, R, H, C]`, maxima and masses `[B, splits, H, R]`.

    Maxima are in powers of two.
    """

    values: jax.Array
    maximum: jax.Array
    mass: jax.Array


class ReadExponents(NamedTuple):
    """The powers of two, `[B, H]` or `[1, H]`, that rows, keys and values are multiplied by; 0 in bfloat16."""

    rows: Exponent = 0
    keys: Exponent = 0
    values: Exponent = 0


def read(
    rows: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    bias: jax.Array | None,
    scale: float,
    *,
    exponents: ReadExponents,
    normalised: bool,
    single: bool,
    blocks: Tiles,
    target: Target,
) -> Result:
    """Let rows `[B, R, H, D]` read keys `[B, S, H, D]` and values `[B, S, H, C]`.

    Logits are `scale log2(e) rows keysᵀ`, plus a float32 `bias` `[B, H, S]` if given, minus infinity for keys that take
    no part. With `normalised` weights are a softmax over the stream, else powers of two of the logits, and maxima and
    masses are of no use. A `single` split gives values in their own dtype, several in float32. Float32 operands are
    multiplied as two float16 parts, into whose range the `exponents` bring them (`kernels/_scales.py`).
    """
    (batch, count, heads, _), channels, dtype = rows.shape, values.shape[-1], rows.dtype
    exponent = weight_exponent(dtype)
    numbers = head_numbers(
        (scale * LOG2_E, logit_factor(-(exponents.rows + exponents.keys))),
        (1.0, -exponents.values - exponent),
        (1.0, -exponents.values),
    )
    shape = Shape.create(rows, keys, blocks, single, target)
    bias = shape.hide(bias, rows.shape[0], keys.shape[1])
    kernel = _Kernel(
        shape,
        padded_width(rows.shape[-1]),
        padded_width(channels),
        numbers if isinstance(numbers, tuple) else None,
        exponent,
        normalised,
        blocks,
        values.dtype if single else jnp.float32,
        target,
    )
    padded = shape.pad_rows(rows), shape.pad_stream(keys), shape.pad_stream(values)
    operands = [split(_scaled(x, exponent)) for x, exponent in zip(padded, exponents, strict=True)]
    if not isinstance(numbers, tuple):
        numbers = (jnp.broadcast_to(numbers, (batch, heads, numbers.shape[-1])),)
    else:
        numbers = ()
    result = kernel.launch([*operands, () if bias is None else (bias,), numbers])
    return Result(result[0][:, :, :count, :, :channels], result[1][..., :count], result[2][..., :count])


@dataclass(frozen=True)
class _Kernel:
    """The kernel of one launch; `dtype` is that of the values it writes.

    Weights are multiplied by 2 to `exponent`. `constants` are the factor of the logits and those of the results,
    without and with a division by the mass, if no head has its own.
    """

    shape: Shape
    width: int
    channels: int
    constants: tuple[float, ...] | None
    exponent: int
    normalised: bool
    blocks: Tiles
    dtype: Any
    target: Target

    def launch(self, operands: list[tuple[jax.Array, ...]]) -> list[jax.Array]:
        """Run it on the parts of rows, keys, values and the bias."""
        blocks, parts, dtype = self.blocks, len(operands[0]), operands[0][0].dtype
        scratch = (
            [row_tiles(blocks, self.width, dtype)] * parts,
            row_tiles(blocks, self.channels, self.dtype),
            [row_numbers(blocks)] * 2,
            weights_memory(blocks, parts, dtype, self.target),
            plgpu.Barrier(num_arrivals=parts * blocks.tiles, num_barriers=blocks.warpgroups),
        )
        return launch(self._run, operands, self._outputs, scratch, self.shape, blocks, self.target)

    def _outputs(self, batch: int) -> list[jax.ShapeDtypeStruct]:
        shape = self.shape
        statistics = jax.ShapeDtypeStruct((batch, shape.splits, shape.heads, shape.rows), jnp.float32)
        values = (batch, shape.splits, shape.rows, shape.heads, self.channels)
        return [jax.ShapeDtypeStruct(values, self.dtype), statistics, statistics]

    def _run(self, inputs: Any, outputs: Any, rows: Any, result: Any, numbers: Any, weights: Any, barrier: Any) -> None:
        """Read one split with the tiles of rows of a program: all warpgroups of it."""
        place, blocks = Place.here(self.shape, self.blocks), self.blocks
        row_refs, key_refs, value_refs, bias_refs, number_refs = inputs
        values, *statistics = outputs
        batch, head, ready = place.batch, place.head, barrier.at[place.group]
        read_number = [lambda i, ref=ref: ref[batch, head, i] for ref in number_refs] or [self.constants.__getitem__]
        factor, over_weights, over_mass = (read_number[0](i) for i in range(3))
        mine = [place.group * blocks.tiles + i for i in range(blocks.tiles)]

        def compute(pipeline: Callable[[Any], Any]) -> None:
            for own, at in zip(mine, place.rows, strict=True):
                for source, kept in zip(row_refs, rows, strict=True):
                    plgpu.copy_gmem_to_smem(source.at[batch, at, head], kept.at[own], ready)
            plgpu.barrier_wait(ready)
            maximum = zeros(SIDE) + (LOWEST if self.normalised else 0.0)
            found = pipeline([_Carry(zeros(SIDE, self.channels), maximum, zeros(SIDE)) for _ in mine])
            for own, (total, maximum, mass) in zip(mine, found, strict=True):
                if self.normalised:
                    total = total * across_rows(jnp.where(mass > 0, over_mass / mass, 0.0), total.shape)
                else:
                    total = total * over_weights
                result.at[own][...] = total.astype(self.dtype)
                numbers[0].at[own][...] = maximum
                numbers[1].at[own][...] = mass * 2.0**-self.exponent
            plgpu.commit_smem()
            for own, at in zip(mine, place.rows, strict=True):
                plgpu.copy_smem_to_gmem(result.at[own], values.at[batch, place.split, at, head])
                for kept, written in zip(numbers, statistics, strict=True):
                    plgpu.copy_smem_to_gmem(kept.at[own], written.at[batch, place.split, head, at])
            plgpu.wait_smem_to_gmem(0)

        parts, biases = len(row_refs), len(bias_refs)
        tiles = [streamed_tile(blocks, self.width)] * parts + [streamed_tile(blocks, self.channels)] * parts
        own_rows = [[x.at[own] for x in rows] for own in mine]
        own_weights = [[x.at[own] for x in weights] for own in mine]
        plgpu.emit_pipeline_warp_specialized(
            functools.partial(self._step, own_rows, own_weights, biases > 0, factor),
            grid=(place.steps,),
            in_specs=tiles + [streamed_numbers(blocks)] * biases,
            max_concurrent_steps=blocks.stages,
            num_compute_wgs=blocks.warpgroups,
            memory_registers=COPYING_REGISTERS,
            wg_axis="warpgroup",
            compute_context=compute,
        )(
            *(x.at[batch, place.stream, head] for x in (*key_refs, *value_refs)),
            *(x.at[batch, head, place.stream] for x in bias_refs),
        )

    def _step(
        self, rows: list[list[Any]], places: list[list[Any]], biased: bool, factor: Any, _: Any, *refs: Any
    ) -> list["_Carry"]:
        """Read one tile of the stream: `refs` are the parts of its keys and values, its bias, and the carry."""
        *tiles, carry = refs
        parts, shape = len(rows[0]), (SIDE, self.blocks.stream)
        keys, values = [key.transpose((1, 0)) for key in tiles[:parts]], tiles[parts : 2 * parts]
        bias = plgpu.load(tiles[-1], layout=plgpu.Layout.WGMMA.reduce(0)) if biased else None
        # Products that are in flight when those of one tile of rows are waited for.
        count = len(orders(parts))

        def products(logits: list[Any], totals: list[Any]) -> list[_Carry]:
            for tile, sums in zip(rows, logits, strict=True):
                start_product(sums, tile, keys)
            result = []
            for i, (sums, total) in enumerate(zip(logits, totals, strict=True)):
                found = plgpu.wgmma_accumulator_load(sums, wait_n=(len(rows) - 1) * count)
                weights, state = self._weights(found, factor, bias, carry[i])
                start_product(total, as_left_factor(places[i], split_in_kernel(weights, tiles[0].dtype, parts)), values)
                result.append(state)
            plgpu.wgmma_wait(0)
            found = lax.optimization_barrier(tuple(plgpu.wgmma_accumulator_load(x, wait_n=None) for x in totals))
            # The tensor cores cut off what a long sum cannot hold, so it is kept outside of them.
            return [x._replace(total=x.total + new) for x, new in zip(result, found, strict=True)]

        accumulators = [plgpu.ACC(shape, jnp.float32)], [plgpu.ACC((SIDE, self.channels), jnp.float32)]
        return pl.run_scoped(products, *(x * len(rows) for x in accumulators))

    def _weights(
        self, logits: jax.Array, factor: Any, bias: jax.Array | None, carry: "_Carry"
    ) -> tuple[jax.Array, "_Carry"]:
        """Return the weights of a tile of logits, and the carry but for what these add to its total."""
        total, maximum, mass = carry
        if bias is not None:
            logits = logits * factor + across_columns(bias, logits.shape)
            factor = 1.0
        # Scaling and subtraction are one operation where the maximum is scaled by itself.
        if not self.normalised:
            return jnp.exp2(logits * factor + self.exponent), carry
        larger = jnp.maximum(maximum, jnp.max(logits, axis=1) * factor)
        shrink = jnp.exp2(maximum - larger)
        weights = jnp.exp2(logits * factor - across_rows(larger - self.exponent, logits.shape))
        mass = mass * shrink + jnp.sum(weights, axis=1)
        return weights, _Carry(total * across_rows(shrink, total.shape), larger, mass)


class _Carry(NamedTuple):
    """Of each row: its weighted sum of values, its maximum and its mass."""

    total: jax.Array
    maximum: jax.Array
    mass: jax.Array


def _scaled(x: jax.Array, exponent: Exponent) -> jax.Array:
    """Multiply `[B, N, H, D]` by its power of two."""
    return x if isinstance(exponent, int) else x * power_of_two(exponent)[:, None, :, None]
