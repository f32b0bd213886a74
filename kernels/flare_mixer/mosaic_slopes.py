"""The gradients of the mixer's keys and values in one Mosaic GPU kernel, launched for points and for latents.

Every pair of a row and an element of the stream has one logit, and two softmaxes of it: one normalised for each element
of the stream, "column" here, one for each row. Of the points' launch the first is the gather's, of the latents' the
scatter's. With `w = exp2(logit - maximum)` and value rows that the masses have been divided out of, the gradient of a
logit is `w_column (a_column · b_column - mean_column) + w_row (a_row · b_row - mean_row)` (README.md, "Backward").
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kernels._mosaic import COPYING_REGISTERS, plgpu, split_in_kernel, split_wide
from kernels._target import Target
from kernels._tiles import LOG2_E, padded_width
from kernels.flare_mixer.mosaic_launch import (
    SIDE,
    Place,
    Shape,
    Tiles,
    across_columns,
    across_rows,
    as_left_factor,
    launch,
    multiply,
    pad_numbers,
    row_numbers,
    row_tiles,
    streamed_numbers,
    streamed_tile,
    weights_memory,
    zeros,
)


class Softmax(NamedTuple):
    """One of the two: values of rows and of the stream, `[B, R or S, H, C]`, and what normalises it.

    `maximum`, in powers of two, and `mean` are `[B, H, S]` of a column's softmax, `[B, H, R]` of a row's.
    """

    rows: jax.Array
    stream: jax.Array
    maximum: jax.Array
    mean: jax.Array


def slopes(
    rows: jax.Array,
    stream: jax.Array,
    column: Softmax | None,
    row: Softmax | None,
    bias: jax.Array | None,
    scale: float,
    *,
    values: bool,
    single: bool,
    blocks: Tiles,
    target: Target,
) -> tuple[jax.Array, jax.Array | None]:
    """Return the gradients of the rows' keys `[B, splits, R, H, D]` and, with `values`, of their values in `column`.

    `rows` `[B, R, H, D]` and `stream` `[B, S, H, D]` are the keys; of the two softmaxes one may be absent. A `bias`
    `[B, H, S]` of minus infinity hides elements of the stream. A `single` split gives the dtype of the keys, several
    give float32.
    """
    shape = Shape.create(rows, stream, blocks, single, target)
    bias = shape.hide(bias, rows.shape[0], stream.shape[1])
    softmaxes = [x for x in (column, row) if x is not None]
    channels = softmaxes[0].rows.shape[-1]
    kernel = _Kernel(
        shape,
        padded_width(rows.shape[-1]),
        padded_width(channels),
        scale,
        column is not None,
        row is not None,
        values,
        blocks,
        rows.dtype if single else jnp.float32,
        target,
    )
    operands = {
        "rows": [split_wide(shape.pad_rows(x)) for x in (rows, *(x.rows for x in softmaxes))],
        "stream": [split_wide(shape.pad_stream(x)) for x in (stream, *(x.stream for x in softmaxes))],
        "row": [] if row is None else [pad_numbers(x, shape.rows) for x in (row.maximum, row.mean)],
        "column": [] if column is None else [pad_numbers(x, shape.stream) for x in (column.maximum, column.mean)],
        "bias": [] if bias is None else [bias],
    }
    keys, *rest = kernel.launch(operands)
    count = rows.shape[1]
    return keys[:, :, :count, :, : rows.shape[-1]], rest[0][:, :, :count, :, :channels] if values else None


@dataclass(frozen=True)
class _Kernel:
    """The kernel of one launch; `dtype` is that of what it writes."""

    shape: Shape
    width: int
    channels: int
    scale: float
    column: bool
    row: bool
    values: bool
    blocks: Tiles
    dtype: Any
    target: Target

    @property
    def widths(self) -> list[int]:
        """The widths of keys and of the values of each softmax."""
        return [self.width] + [self.channels] * (self.column + self.row)

    @property
    def results(self) -> list[int]:
        """The widths of what is written."""
        return [self.width] + [self.channels] * self.values

    def launch(self, operands: dict[str, Any]) -> list[jax.Array]:
        """Run it on the parts of the operands."""
        blocks, parts = self.blocks, len(operands["rows"][0])
        arrivals = parts * len(self.widths) + 2 * self.row
        scratch = (
            [[row_tiles(blocks, width, jnp.bfloat16)] * parts for width in self.widths],
            [row_tiles(blocks, width, self.dtype) for width in self.results],
            [row_numbers(blocks)] * (2 * self.row),
            weights_memory(blocks, parts, jnp.bfloat16, self.target),
            plgpu.Barrier(num_arrivals=arrivals, num_barriers=blocks.warpgroups),
        )
        return launch(self._run, operands, self._outputs, scratch, self.shape, blocks, self.target)

    def _outputs(self, batch: int) -> list[jax.ShapeDtypeStruct]:
        shape = self.shape
        sizes = (batch, shape.splits, shape.rows, shape.heads)
        return [jax.ShapeDtypeStruct((*sizes, width), self.dtype) for width in self.results]

    def _run(
        self, inputs: Any, outputs: Any, rows: Any, results: Any, numbers: Any, weights: Any, barrier: Any
    ) -> None:
        """Gradients of one tile of rows from one split: all warpgroups of a program."""
        place, blocks = Place.here(self.shape, self.blocks), self.blocks
        mine, batch, head = place.group, place.batch, place.head

        def compute(pipeline: Callable[[Any], Any]) -> None:
            for source, kept in zip(jax.tree.leaves(inputs["rows"]), jax.tree.leaves(rows), strict=True):
                plgpu.copy_gmem_to_smem(source.at[batch, place.rows[0], head], kept.at[mine], barrier.at[mine])
            for source, kept in zip(inputs["row"], numbers, strict=True):
                plgpu.copy_gmem_to_smem(source.at[batch, head, place.rows[0]], kept.at[mine], barrier.at[mine])
            plgpu.barrier_wait(barrier.at[mine])
            sums = pipeline([zeros(SIDE, width) for width in self.results])
            for kept, total, factor in zip(results, sums, (self.scale, 1.0), strict=False):
                kept.at[mine][...] = (total * factor).astype(self.dtype)
            plgpu.commit_smem()
            for kept, written in zip(results, outputs, strict=True):
                plgpu.copy_smem_to_gmem(kept.at[mine], written.at[batch, place.split, place.rows[0], head])
            plgpu.wait_smem_to_gmem(0)

        parts = len(rows[0])
        own = [[x.at[mine] for x in tile] for tile in rows]
        step = functools.partial(self._step, own, [x.at[mine] for x in numbers], [x.at[mine] for x in weights])
        streamed = [*inputs["column"], *inputs["bias"]]
        plgpu.emit_pipeline_warp_specialized(
            step,
            grid=(place.steps,),
            in_specs=[streamed_tile(blocks, width) for width in self.widths for _ in range(parts)]
            + [streamed_numbers(blocks)] * len(streamed),
            max_concurrent_steps=blocks.stages,
            num_compute_wgs=blocks.warpgroups,
            memory_registers=COPYING_REGISTERS,
            wg_axis="warpgroup",
            compute_context=compute,
        )(
            *(x.at[batch, place.stream, head] for x in jax.tree.leaves(inputs["stream"])),
            *(x.at[batch, head, place.stream] for x in streamed),
        )

    def _step(self, rows: list[Any], row_numbers: list[Any], places: list[Any], _: Any, *refs: Any) -> Any:
        """Add one tile of the stream: `refs` are its parts, its statistics, its bias, and the sums so far."""
        *tiles, sums = refs
        parts = len(rows[0])
        stream = [tiles[i * parts : (i + 1) * parts] for i in range(len(rows))]
        numbers = [plgpu.load(x, layout=plgpu.Layout.WGMMA.reduce(0)) for x in tiles[len(rows) * parts :]]
        shape = (SIDE, self.blocks.stream)
        # Products of keys, and of the values of each softmax.
        logits, *means = (_transposed(a, b, shape) for a, b in zip(rows, stream, strict=True))
        logits = logits * (self.scale * LOG2_E)
        if len(numbers) > 2 * self.column:
            logits = logits + across_columns(numbers[-1], shape)
        gradient, weights = None, None
        if self.column:
            weights = jnp.exp2(logits - across_columns(numbers[0], shape))
            gradient = weights * (means[0] - across_columns(numbers[1], shape))
        if self.row:
            maximum, mean = (plgpu.load(x, layout=plgpu.Layout.WGMMA.reduce(1)) for x in row_numbers)
            part = jnp.exp2(logits - across_rows(maximum, shape)) * (means[-1] - across_rows(mean, shape))
            gradient = part if gradient is None else gradient + part
        factors = [(gradient, stream[0])] + [(weights, stream[1])] * self.values
        return [
            total + multiply(as_left_factor(places, split_in_kernel(x, jnp.bfloat16, parts)), right, total.shape)
            for total, (x, right) in zip(sums, factors, strict=True)
        ]


def _transposed(rows: list[Any], stream: list[Any], shape: tuple[int, int]) -> jax.Array:
    return multiply(rows, [x.transpose((1, 0)) for x in stream], shape)
