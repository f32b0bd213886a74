"""One Mosaic GPU kernel for three of the mixer's passes: rows read a stream of keys and values (README.md, "Kernels").

Of the gather the rows are latents and the stream points, of the scatter the other way round; the latents' gradient is a
gather with weights whose normalisation is known. Warpgroups multiply 64 rows each with tiles that one more fetches
ahead of them.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kernels._mosaic import COPYING_REGISTERS, WARPGROUP_ROWS, plgpu, split, split_in_kernel
from kernels._target import Target
from kernels._tiles import LOG2_E, LOWEST, padded_width
from kernels.flare_mixer.mosaic_launch import (
    Place,
    Shape,
    Tiles,
    across_columns,
    across_rows,
    as_left_factor,
    launch,
    multiply,
    row_numbers,
    row_tiles,
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


def read(
    rows: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    bias: jax.Array | None,
    scale: float,
    *,
    normalised: bool,
    single: bool,
    blocks: Tiles,
    target: Target,
) -> Result:
    """Let rows `[B, R, H, D]` read keys `[B, S, H, D]` and values `[B, S, H, C]`.

    Logits are `scale log2(e) rows keysᵀ`, plus a float32 `bias` `[B, H, S]` if given, minus infinity for keys that take
    no part. With `normalised` weights are a softmax over the stream, else powers of two of the logits, and maxima and
    masses are of no use. A `single` split gives values in their own dtype, several in float32.
    """
    count, channels = rows.shape[1], values.shape[-1]
    shape = Shape.create(rows, keys, blocks, single, target)
    bias = shape.hide(bias, rows.shape[0], keys.shape[1])
    kernel = _Kernel(
        shape,
        padded_width(rows.shape[-1]),
        padded_width(channels),
        scale * LOG2_E,
        normalised,
        blocks,
        values.dtype if single else jnp.float32,
        target,
    )
    operands = [split(shape.pad_rows(rows)), split(shape.pad_stream(keys)), split(shape.pad_stream(values))]
    result = kernel.launch([*operands, () if bias is None else (bias,)])
    return Result(result[0][:, :, :count, :, :channels], result[1][..., :count], result[2][..., :count])


@dataclass(frozen=True)
class _Kernel:
    """The kernel of one launch; `dtype` is that of the values it writes."""

    shape: Shape
    width: int
    channels: int
    factor: float
    normalised: bool
    blocks: Tiles
    dtype: Any
    target: Target

    def launch(self, operands: list[tuple[jax.Array, ...]]) -> list[jax.Array]:
        """Run it on the parts of rows, keys, values and the bias."""
        blocks, parts = self.blocks, len(operands[0])
        scratch = (
            [row_tiles(blocks, self.width, jnp.bfloat16)] * parts,
            row_tiles(blocks, self.channels, self.dtype),
            [row_numbers(blocks)] * 2,
            weights_memory(blocks, parts, self.target),
            plgpu.Barrier(num_arrivals=parts, num_barriers=blocks.warpgroups),
        )
        return launch(self._run, operands, self._outputs, scratch, self.shape, blocks, self.target)

    def _outputs(self, batch: int) -> list[jax.ShapeDtypeStruct]:
        shape = self.shape
        statistics = jax.ShapeDtypeStruct((batch, shape.splits, shape.heads, shape.rows), jnp.float32)
        values = (batch, shape.splits, shape.rows, shape.heads, self.channels)
        return [jax.ShapeDtypeStruct(values, self.dtype), statistics, statistics]

    def _run(self, inputs: Any, outputs: Any, rows: Any, result: Any, numbers: Any, weights: Any, barrier: Any) -> None:
        """Read one split with one tile of rows: all warpgroups of a program."""
        place, blocks = Place.here(self.shape, self.blocks), self.blocks
        row_refs, key_refs, value_refs, bias_refs = inputs
        values, *statistics = outputs
        mine, batch, head = place.group, place.batch, place.head

        def compute(pipeline: Callable[[Any], Any]) -> None:
            for source, kept in zip(row_refs, rows, strict=True):
                plgpu.copy_gmem_to_smem(source.at[batch, place.rows, head], kept.at[mine], barrier.at[mine])
            plgpu.barrier_wait(barrier.at[mine])
            maximum = zeros(WARPGROUP_ROWS) + (LOWEST if self.normalised else 0.0)
            total, maximum, mass = pipeline((zeros(WARPGROUP_ROWS, self.channels), maximum, zeros(WARPGROUP_ROWS)))
            if self.normalised:
                total = total * across_rows(jnp.where(mass > 0, 1.0 / mass, 0.0), total.shape)
            result.at[mine][...] = total.astype(self.dtype)
            numbers[0].at[mine][...] = maximum
            numbers[1].at[mine][...] = mass
            plgpu.commit_smem()
            plgpu.copy_smem_to_gmem(result.at[mine], values.at[batch, place.split, place.rows, head])
            for kept, written in zip(numbers, statistics, strict=True):
                plgpu.copy_smem_to_gmem(kept.at[mine], written.at[batch, place.split, head, place.rows])
            plgpu.wait_smem_to_gmem(0)

        parts, biases = len(row_refs), len(bias_refs)
        tiles = [streamed_tile(blocks, self.width)] * parts + [streamed_tile(blocks, self.channels)] * parts
        plgpu.emit_pipeline_warp_specialized(
            functools.partial(self._step, [x.at[mine] for x in rows], [x.at[mine] for x in weights], biases > 0),
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

    def _step(self, rows: list[Any], places: list[Any], biased: bool, _: Any, *refs: Any) -> Any:
        """Read one tile of the stream: `refs` are the parts of its keys and values, its bias, and the carry."""
        *tiles, (total, maximum, mass) = refs
        parts = len(rows)
        keys, values = tiles[:parts], tiles[parts : 2 * parts]
        transposed = [key.transpose((1, 0)) for key in keys]
        logits = multiply(rows, transposed, (WARPGROUP_ROWS, self.blocks.stream)) * self.factor
        if biased:
            logits += across_columns(plgpu.load(tiles[-1], layout=plgpu.Layout.WGMMA.reduce(0)), logits.shape)
        if self.normalised:
            larger = jnp.maximum(maximum, jnp.max(logits, axis=1))
            shrink, maximum = jnp.exp2(maximum - larger), larger
            logits = logits - across_rows(maximum, logits.shape)
            total = total * across_rows(shrink, total.shape)
            mass = mass * shrink
        weights = jnp.exp2(logits)
        if self.normalised:
            mass = mass + jnp.sum(weights, axis=1)
        # The tensor cores cut off what a long sum cannot hold, so it is kept outside of them.
        total = total + multiply(as_left_factor(places, split_in_kernel(weights, parts)), values, total.shape)
        return total, maximum, mass
