"""The mixer in four kernels with no programs of XLA between them, which with few points take longer than the kernels.

Every kernel finds the powers of two that its operands are multiplied by (`kernels/_scales.py`), for the points of its
own program; the scatter merges what the splits of the gather left, and the kernel of the operands' gradients adds up
those of the latents' gradient. Each of their programs does so for its head again, so there must be few splits, and
one tile of latents.
"""

import functools
from typing import Any

import jax

from kernels._layout import Layout
from kernels._pairs import Gradients
from kernels._statistics import Statistics
from kernels._target import Target
from kernels.flare_mixer.compact_kernels import (
    GradientInputs,
    Scattered,
    latent_gradient_kernel,
    operand_gradient_kernel,
    scatter_kernel,
)
from kernels.flare_mixer.mixing import PointStatistics
from kernels.flare_mixer.operands import Operands
from kernels.flare_mixer.pallas_pairs import PointSide, Settings
from kernels.flare_mixer.table import KernelBlocks
from kernels.gather.compact import MOST_SPLITS, gather_splits
from kernels.gather.pallas import like_latents, sum_of_splits


def serves(operands: Operands, blocks: KernelBlocks, target: Target) -> bool:
    """Return whether the launches ask for these kernels and one tile holds the latents of a head."""
    if not blocks.compact:
        return False
    whole = _layout(operands, blocks.scatter, target, True), _layout(operands, blocks.operand_gradients, target, True)
    parts = _layout(operands, blocks.gather, target, False), _layout(operands, blocks.latent_gradient, target, False)
    return (
        all(layout.tiling.latent_tiles == 1 and layout.tiling.group == 1 for layout in whole)
        and all(layout.tiling.splits <= MOST_SPLITS for layout in parts)
        and not blocks.operand_gradients.one_exponential
    )


def _layout(operands: Operands, blocks: Any, target: Target, all_latents: bool) -> Layout:
    return Layout.create(blocks, operands.q, operands.k, operands.mask, target, all_latents=all_latents)


def forward(
    operands: Operands, scale: float, blocks: KernelBlocks, target: Target
) -> tuple[jax.Array, Statistics, PointStatistics]:
    """Return the mixed points, the latents with their statistics, and those of the points."""
    parts = gather_splits(operands.of_gather, scale, blocks.gather, target)
    return scatter(operands, parts, scale, blocks, target)


def scatter(
    operands: Operands, parts: Statistics, scale: float, blocks: KernelBlocks, target: Target
) -> tuple[jax.Array, Statistics, PointStatistics]:
    """Return the same from what each split of the points gathered."""
    v, mask, channels = operands.v, operands.mask, operands.v.shape[-1]
    q, k = operands.scatter_pair
    layout, splits = _layout(operands, blocks.scatter, target, True), parts.mass.shape[2]
    kernel = functools.partial(scatter_kernel, widths=(k.shape[-1], channels), splits=splits, scale=scale)
    statistics, merged = layout.point_statistics_output(), layout.merged_latents()
    inputs = (
        layout.latents(q[None]),
        Statistics(*map(layout.split_latents, parts)),
        layout.points(k),
        layout.mask(mask),
    )
    outputs = Scattered(
        layout.points_output(channels, v.dtype),
        statistics,
        statistics,
        Statistics(layout.merged_latents(channels), merged, merged),
    )
    y, maximum, mass, merged = layout.launch(kernel, "flare_scatter", inputs, outputs)
    return y, merged, (maximum, mass)


def backward(
    operands: Operands,
    statistics: Statistics,
    point_statistics: PointStatistics,
    y: jax.Array,
    dy: jax.Array,
    direct: jax.Array,
    scale: float,
    blocks: KernelBlocks,
    target: Target,
) -> Operands:
    """Return the gradients of all operands; `direct` is the gradient of the latents that are returned."""
    kept = operands, statistics, point_statistics, y, dy, direct
    keys, values, queries = gradient_splits(*kept, scale, blocks, target)
    q = (operands.q, operands.q_decode)
    dq = [like_latents(sum_of_splits(x, q), q) for x, q in zip(queries, q, strict=False)]
    decode = (dq[1], keys[1]) if operands.separate else ()
    return Operands(dq[0], keys[0], values, *decode)


def gradient_splits(
    operands: Operands,
    statistics: Statistics,
    point_statistics: PointStatistics,
    y: jax.Array,
    dy: jax.Array,
    direct: jax.Array,
    scale: float,
    blocks: KernelBlocks,
    target: Target,
) -> Gradients:
    """Return the gradients of keys and values, and what each split has for those of the queries."""
    (q, k), channels = operands.scatter_pair, y.shape[-1]
    layout = _layout(operands, blocks.latent_gradient, target, False)
    kernel = functools.partial(latent_gradient_kernel, widths=(k.shape[-1], channels), scale=scale)
    inputs = (
        layout.latents(q[None]),
        layout.points(k),
        layout.points(dy),
        *map(layout.point_statistics, point_statistics),
        layout.mask(operands.mask),
    )
    parts = layout.launch(kernel, "flare_latent_gradient", inputs, layout.partial_latents(channels))

    layout = _layout(operands, blocks.operand_gradients, target, True)
    pairs = [(operands.q, operands.k), (operands.q_decode, operands.k_decode)][: 1 + operands.separate]
    widths = tuple(k.shape[-1] for _, k in pairs)
    inputs = GradientInputs(
        layout.split_latents(parts),
        layout.latents(direct[None]),
        Statistics(layout.latents(statistics.latents[None]), *map(layout.latent_statistics, statistics[1:])),
        [layout.latents(q[None]) for q, _ in pairs],
        PointSide(
            *map(layout.points, (operands.v, y, dy)),
            *map(layout.point_statistics, point_statistics),
            [layout.points(k) for _, k in pairs],
        ),
        layout.mask(operands.mask),
    )
    outputs = Gradients(
        [layout.points_output(width, y.dtype) for width in widths],
        layout.points_output(channels, y.dtype),
        [layout.partial_columns(width) for width in widths],
    )
    kernel = functools.partial(
        operand_gradient_kernel,
        settings=Settings(widths, channels, None, None),
        splits=parts.shape[2],
        scale=scale,
    )
    return layout.launch(kernel, "flare_operand_gradients", inputs, outputs)
