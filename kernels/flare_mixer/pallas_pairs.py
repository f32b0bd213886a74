"""The kernel of the operands' gradients: what is read of a tile, and the gradients of the logits of two tiles.

One exponential can serve both softmaxes (`one_exponential.py`).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels._layout import Layout
from kernels._pairs import Gradients, Number, Walk
from kernels._scales import read_numbers, weight_exponent
from kernels._tile_products import Parts, Products, is_split
from kernels._tiles import load_rows, load_vector


class Numbers(NamedTuple):
    """What a head's kernel multiplies by: the logits' factors, the operands' scales, and what undoes those.

    `slope` and `decode_slope` bring the products of value rows, `mean` a point's mean slope, to the scale of the
    logits' gradients; `dv`, `dk` and `dk_decode` bring sums to that of the results.
    """

    factor: Number
    decode_factor: Number
    key: Number
    decode_key: Number
    value: Number
    decode_value: Number
    slope: Number
    decode_slope: Number
    mean: Number
    dv: Number
    dk: Number
    dk_decode: Number


class Settings(NamedTuple):
    """Static facts about one launch: `logits` holds the widths of the one or two pairs of keys, `values` that of v.

    `one_exponential` is whether the launch serves the heads that can share one, or the others; None is all heads, with
    two. `constants` are the `Numbers` if no head has its own.
    """

    logits: tuple[int, ...]
    values: int
    one_exponential: bool | None
    constants: tuple[float, ...] | None


class LatentSide(NamedTuple):
    """Of the latents, `[B, H, M, C]`: z and dz / mass; `[B, H, M]`: maxima and mean slopes; and the one or two q."""

    latents: Any
    gradients: Any
    maximum: Any
    mean: Any
    keys: list[Any]


class PointSide(NamedTuple):
    """Of the points, `[B, N, H, C]`: v, y and dy; `[B, H, N]`: maxima and masses of the scatter; the one or two k."""

    v: Any
    y: Any
    dy: Any
    maximum: Any
    mass: Any
    keys: list[Any]


class Inputs(NamedTuple):
    """What the kernel reads; `numbers` and `reference`, of one exponential, may be None."""

    numbers: Any
    reference: Any
    latents: LatentSide
    points: PointSide
    mask: Any


class Tile(NamedTuple):
    """What is read of one tile of points or latents.

    `keys` are its factors in the logits: one if both softmaxes share them, else the gather's and the scatter's. `value`
    meets the other side's `value` in the slope of the gather's logits, `decode_value` that of the scatter's: for points
    these are v and dy / mass, for latents dz / mass and z. `maximum` and `mean` belong to the softmax that each row of
    this tile is normalised by. With one exponential `share` is the points' factor, which `value` has in it too where it
    is one part, and the latents' factor is in their `value` and `mean`; parts of weights are scaled, and so the points'
    `maximum` and `mean` are too. `factors` are a point's keys as left factors of the logits.
    """

    keys: list[Parts]
    value: Parts
    decode_value: Parts
    maximum: jax.Array
    mean: jax.Array
    valid: jax.Array | None
    share: jax.Array | None = None
    factors: list[Parts] | None = None


def _load_latents(refs: LatentSide, index: Any, valid: jax.Array | None, settings: Settings, layout: Layout) -> Tile:
    """Read a tile of latents."""
    products, rows = layout.products, layout.tiling.block_latents
    start = index * rows

    def load(ref: Any, width: int) -> Parts:
        return products.right(products.load_parts(ref, start, rows, width, valid))

    return Tile(
        keys=[load(ref, width) for ref, width in zip(refs.keys, settings.logits, strict=True)],
        value=load(refs.gradients, settings.values),
        decode_value=load(refs.latents, settings.values),
        maximum=load_vector(refs.maximum, start, rows, valid, jnp.inf),
        mean=load_vector(refs.mean, start, rows, valid, 0.0),
        valid=valid,
    )


def load_points(
    refs: PointSide,
    start: jax.Array,
    valid: jax.Array | None,
    settings: Settings,
    numbers: Numbers,
    reference: jax.Array | None,
    layout: Layout,
) -> Tile:
    """Read a tile of points; with a `reference` its values have the factor of one exponential."""
    products, rows = layout.products, layout.tiling.group_points
    dy = load_rows(refs.dy, start, rows, settings.values, valid)
    y = load_rows(refs.y, start, rows, settings.values, valid).astype(jnp.float32)
    mass = load_vector(refs.mass, start, rows, valid, 1.0)
    dy_over_mass = dy.astype(jnp.float32) * (1.0 / mass)[:, None]
    keys = [load_rows(ref, start, rows, w, valid) for ref, w in zip(refs.keys, settings.logits, strict=True)]
    value = load_rows(refs.v, start, rows, settings.values, valid)
    maximum, share = load_vector(refs.maximum, start, rows, valid, jnp.inf), None
    mean = jnp.sum(dy_over_mass * y, axis=1) * numbers.mean
    if reference is not None:
        share = products.exp2(maximum - reference)
        if valid is not None:
            share = jnp.where(valid, share, 0.0)
        if not is_split(value.dtype):
            value = (value.astype(jnp.float32) * share[:, None]).astype(value.dtype)
        weight = weight_exponent(dy.dtype)
        maximum, mean = maximum - weight, mean * 2.0**-weight
    keys = [products.split(key, scale) for key, scale in zip(keys, (numbers.key, numbers.decode_key), strict=False)]
    return Tile(
        keys=keys,
        factors=[products.left(key) for key in keys],
        value=products.left(products.split(value, numbers.value)),
        decode_value=products.left(products.split(dy_over_mass.astype(dy.dtype), numbers.decode_value)),
        maximum=maximum,
        mean=mean,
        valid=valid,
        share=share,
    )


def pair_gradients(
    numbers: Numbers, products: Products, points: Tile, latents: Tile
) -> tuple[jax.Array, list[jax.Array]]:
    """Return the gather's weights and the gradients of the one or two logits, `[points, latents]`, up to their scales.

    The weights are not normalised: the masses have been divided out of `value`, `decode_value` and `mean`. With one
    exponential they are the scatter's, without the factors that make them the gather's.
    """
    raw = [products.multiply(k, q, (1, 1)) for k, q in zip(points.factors, latents.keys, strict=True)]
    if points.valid is not None:
        raw = [jnp.where(points.valid[:, None], x, -jnp.inf) for x in raw]
    if latents.valid is not None:
        raw = [jnp.where(latents.valid[None, :], x, -jnp.inf) for x in raw]
    decode_weights = products.exp2(products.multiply_add(raw[-1], numbers.decode_factor, -points.maximum[:, None]))
    decode_slope = products.multiply(points.decode_value, latents.decode_value, (1, 1))
    if points.share is not None:
        slope = _shared_slope(numbers, products, points, latents, decode_slope)
        return decode_weights, [decode_weights * slope]
    weights = products.exp2(products.multiply_add(raw[0], numbers.factor, -latents.maximum[None, :]))
    slope = products.multiply(points.value, latents.value, (1, 1))
    gradient = weights * products.multiply_add(slope, numbers.slope, -latents.mean[None, :])
    decode_slope = products.multiply_add(decode_slope, numbers.decode_slope, -points.mean[:, None])
    if len(raw) == 1:
        return weights, [products.multiply_add(decode_weights, decode_slope, gradient)]
    return weights, [gradient, decode_weights * decode_slope]


def _shared_slope(
    numbers: Numbers, products: Products, points: Tile, latents: Tile, decode_slope: jax.Array
) -> jax.Array:
    """Return the slopes of both softmaxes of one exponential, given the product of value rows of the scatter's."""
    if len(points.value) == 1:
        slope = products.multiply(points.value, latents.value, (1, 1), start=decode_slope) - points.mean[:, None]
    else:
        # The points' factors in the place of a constant, so that no bits of v are lost to them.
        factor = numbers.decode_slope * 2.0 ** -weight_exponent(jnp.float32)
        slope = products.multiply_add(decode_slope, factor, -points.mean[:, None])
        gather_slope = products.multiply(points.value, latents.value, (1, 1))
        slope = products.multiply_add(gather_slope, (points.share * numbers.slope)[:, None], slope)
    mean = jnp.broadcast_to(-points.share[:, None], slope.shape)
    return products.multiply_add(mean, latents.mean[None, :], slope)


def operand_gradient_kernel(inputs: Inputs, outputs: Gradients, *, layout: Layout, settings: Settings) -> None:
    """Gradients of the points of one split, for the heads that the launch serves."""
    split = pl.program_id(1)  # the interpreter knows it at the top level of a kernel only
    numbers = Numbers(*read_numbers(settings.constants, inputs.numbers))

    def run(reference: jax.Array | None) -> None:
        latents = functools.partial(_load_latents, inputs.latents, settings=settings, layout=layout)
        pair_walk(latents, inputs.points, numbers, layout, settings, reference).run(split, inputs.mask, outputs)

    if settings.one_exponential is None:
        run(None)
        return
    reference = inputs.reference[0]
    near = reference < jnp.inf
    if settings.one_exponential:
        pl.when(near)(lambda: run(reference))
    else:
        pl.when(~near)(lambda: run(None))


def pair_walk(
    load_latents: Callable[[Any, jax.Array | None], Tile],
    points: PointSide,
    numbers: Numbers,
    layout: Layout,
    settings: Settings,
    reference: jax.Array | None = None,
    query_factors: tuple[Number, ...] | None = None,
) -> Walk:
    """Return the walk over pairs of tiles of points and those of latents, which `load_latents(index, valid)` gives."""
    return Walk(
        layout,
        settings.logits,
        settings.values,
        (numbers.dk, numbers.dk_decode)[: len(settings.logits)],
        numbers.dv,
        load_latents,
        lambda start, valid: load_points(points, start, valid, settings, numbers, reference, layout),
        functools.partial(pair_gradients, numbers, layout.products),
        query_factors,
    )
