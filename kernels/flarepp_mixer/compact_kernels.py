"""The two kernels that make the queries of what the points gave, and what becomes of their gradients (`compact.py`)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels._layout import Layout
from kernels._pairs import Gradients
from kernels._scales import number, slope_exponent, tile_exponent, weight_exponent
from kernels._statistics import Statistics
from kernels._tile_products import is_split
from kernels._tiles import load_rows, load_vector, store_rows, store_vector
from kernels.flarepp_mixer.operands import Operands
from kernels.gather.compact import LatentTile, gather_tile, merge, point_exponents, rows_of, sum_split_columns
from kernels.gather.pallas import GradientNumbers, LatentSide, gradient_numbers, gradient_walk


def parameters_of_queries(operands: Operands) -> jax.Array:
    """Return `[3, H, M, D]`, float32: the queries of the first gather, fixed queries, and the gate for each number.

    Chosen from and not put together: of slices of one array XLA then makes what all blocks of a network read at once.
    """
    parts = operands.q0, operands.q_fixed, operands.gate[:, None, None]
    q0, fixed, gate = (x.astype(jnp.float32) for x in parts)
    part = jnp.arange(3)[:, None, None, None]
    return jnp.where(part == 0, q0, jnp.where(part == 1, fixed, gate))


class QueryInputs(NamedTuple):
    """What the gather reads: the splits of the first one, `parameters_of_queries`, and k, v and mask."""

    parts: Statistics
    parameters: Any
    points: tuple[Any, Any, Any]


class QueryOutputs(NamedTuple):
    """What the gather writes: queries, the merged statistics of the first gather, and its own splits."""

    q: Any
    synthesis: Statistics
    parts: Statistics


def gather_kernel(
    inputs: QueryInputs, outputs: QueryOutputs, *, layout: Layout, widths: tuple[int, int], splits: int, scale: float
) -> None:
    """Make the queries of one tile of latents and gather with them; the first split keeps the queries."""
    tiling, width, split = layout.tiling, widths[0], pl.program_id(1)
    rows, valid = tiling.block_latents, tiling.valid_latents(layout.latent_tile(pl.program_id(0)))
    merged = merge(inputs.parts, splits, layout, width, valid)
    fixed, gate = (load_rows(inputs.parameters, 0, rows, width, valid, (jnp.int32(part),)) for part in (1, 2))
    queries = fixed + gate * merged[0]

    @pl.when(split == 0)
    def keep() -> None:
        latents, *numbers = merged
        store_rows(outputs.q, 0, queries, width, valid)
        store_rows(outputs.synthesis.latents, 0, latents, width, valid)
        for ref, value in zip(outputs.synthesis[1:], numbers, strict=True):
            store_vector(ref, 0, value, valid)

    q = LatentTile.of(queries.astype(inputs.points[0].dtype), layout.products)
    gather_tile(q, inputs.points, outputs.parts, split, valid, layout, widths, scale)


class GradientInputs(NamedTuple):
    """What the kernel of the first gather's gradients reads.

    These are the splits of the gradient of all queries, what is added to it and to that of the queries from the points,
    the gather's statistics, `parameters_of_queries`, k0 and v0 or None, and the mask.
    """

    parts: Any
    q: Any
    q_dynamic: Any
    statistics: Statistics
    parameters: Any
    points: tuple[Any, Any]
    mask: Any


class GradientOutputs(NamedTuple):
    """What it writes: the gradients of its operands, of all queries, and of the gate in each sample."""

    points: Gradients
    q: Any
    gate: Any


def gradient_kernel(
    inputs: GradientInputs,
    outputs: GradientOutputs,
    *,
    layout: Layout,
    widths: tuple[int, int],
    splits: int,
    scale: float,
) -> None:
    """Gradients of the points of one split; the first split keeps those of the queries."""
    split, valid, first = pl.program_id(1), layout.tiling.valid_latents(0), (jnp.int32(0),)
    rows, channels = layout.tiling.block_latents, widths[1]
    dq = load_rows(inputs.q, 0, rows, channels, valid, first)
    dq += sum_split_columns(inputs.parts, splits, layout, channels)
    q_dynamic = load_rows(inputs.statistics.latents, 0, rows, channels, valid, first)

    @pl.when(split == 0)
    def keep() -> None:
        store_rows(outputs.q, 0, dq, channels, valid)
        store_vector(outputs.gate, 0, jnp.sum(dq * q_dynamic)[None], None)

    gate = load_rows(inputs.parameters, 0, rows, channels, valid, (jnp.int32(2),))
    dq_dynamic = gate * dq + load_rows(inputs.q_dynamic, 0, rows, channels, valid, first)
    latents, numbers, query_factor = _slopes(inputs, dq_dynamic, q_dynamic, split, layout, widths, scale)
    walk = gradient_walk(lambda index, valid: latents, inputs.points, numbers, layout, widths, (query_factor,))
    walk.run(split, inputs.mask, outputs.points)


def _slopes(
    inputs: GradientInputs,
    dz: jax.Array,
    z: jax.Array,
    split: jax.Array,
    layout: Layout,
    widths: tuple[int, int],
    scale: float,
) -> tuple[LatentSide, GradientNumbers, Any]:
    """Return the latents' side of the slopes, what a program multiplies by, and the factor of its gradient of q."""
    products, rows, valid = layout.products, layout.tiling.block_latents, layout.tiling.valid_latents(0)
    (k_ref, v_ref), dtype, (width, channels) = inputs.points, inputs.points[0].dtype, widths
    mass = load_vector(inputs.statistics.mass, 0, rows, valid, 1.0)
    gradients = dz / jnp.where(mass > 0, mass, 1.0)[:, None]
    mean = jnp.sum(gradients * z, axis=1)
    q = LatentTile.load(inputs.parameters, rows, width, valid, products, dtype)
    gradients = LatentTile.of(gradients.astype(dtype), products)
    points = layout.tiling.block_points
    loads = [rows_of(k_ref, points, width), *([] if v_ref is None else [rows_of(v_ref, points, channels)])]
    exponents = point_exponents(layout, split, inputs.mask, loads, dtype)
    k, v = exponents[0], exponents[-1]
    # Mean slopes hold z in the place of v, which among the points of one program may be smaller.
    values = jnp.minimum(v, tile_exponent(jnp.max(jnp.abs(z)), dtype)) + gradients.exponent if is_split(dtype) else 0
    weight, slope = weight_exponent(dtype), slope_exponent(channels, values, values)
    pairs = gradient_numbers(scale, q.exponent, k, v, gradients.exponent, slope, weight)
    maximum = load_vector(inputs.statistics.maximum, 0, rows, valid, jnp.inf)
    side = LatentSide([q.parts], gradients.parts, maximum - weight, mean * number(1.0, slope - weight), valid)
    return side, GradientNumbers(*(number(*pair) for pair in pairs)), number(scale, -slope - k)
