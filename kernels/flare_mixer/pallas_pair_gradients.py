"""Inside the kernel of the operands' gradients: what is read of a tile, and the gradients of the logits of two tiles.

One exponential can serve both softmaxes. With L_m and l_n the maxima of latent m and point n, and c the largest L_m,
the gather's weight exp(s - L_m) is the scatter's exp(s - l_n) times exp(l_n - c) times exp(c - L_m): the two factors go
into the values of the point and of the latent, and both slopes become one sum of products. This is exact as long as no
factor leaves the range of float32, which is decided per head before the launch.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kernels.flare_mixer.pallas_products import Parts, multiply, split_tile
from kernels.flare_mixer.pallas_specs import Layout
from kernels.flare_mixer.pallas_tiles import load_parts, load_rows, load_vector

Number = jax.Array | float


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

    layout: Layout
    logits: tuple[int, ...]
    values: int
    one_exponential: bool | None
    constants: tuple[float, ...] | None


class Tile(NamedTuple):
    """What is read of one tile of points or latents.

    `keys` are its factors in the logits: one if both softmaxes share them, else the gather's and the scatter's. `value`
    meets the other side's `value` in the slope of the gather's logits, `decode_value` that of the scatter's: for points
    these are v and dy / mass, for latents dz / mass and z. `maximum` and `mean` belong to the softmax that each row of
    this tile is normalised by. With one exponential `share` is the points' factor, which `value` has in it too, and the
    latents' factor is in their `value` and `mean`.
    """

    keys: list[Parts]
    value: Parts
    decode_value: Parts
    maximum: jax.Array
    mean: jax.Array
    valid: jax.Array | None
    share: jax.Array | None = None


def load_latents(refs: list[Any], index: Any, valid: jax.Array | None, settings: Settings) -> Tile:
    """Read a tile of latents."""
    z_ref, dz_ref, maximum_ref, mean_ref, *key_refs = refs
    rows = settings.layout.tiling.block_latents
    start = index * rows
    return Tile(
        keys=[load_parts(ref, start, rows, w, valid) for ref, w in zip(key_refs, settings.logits, strict=True)],
        value=load_parts(dz_ref, start, rows, settings.values, valid),
        decode_value=load_parts(z_ref, start, rows, settings.values, valid),
        maximum=load_vector(maximum_ref, start, rows, valid, jnp.inf),
        mean=load_vector(mean_ref, start, rows, valid, 0.0),
        valid=valid,
    )


def load_points(
    refs: list[Any],
    start: jax.Array,
    valid: jax.Array | None,
    settings: Settings,
    numbers: Numbers,
    reference: jax.Array | None,
) -> Tile:
    """Read a tile of points; with a `reference` its values have the factor of one exponential."""
    v_ref, y_ref, dy_ref, maximum_ref, mass_ref, *key_refs = refs
    rows = settings.layout.tiling.group_points
    dy = load_rows(dy_ref, start, rows, settings.values, valid)
    y = load_rows(y_ref, start, rows, settings.values, valid).astype(jnp.float32)
    mass = load_vector(mass_ref, start, rows, valid, 1.0)
    dy_over_mass = dy.astype(jnp.float32) * (1.0 / mass)[:, None]
    keys = [load_rows(ref, start, rows, w, valid) for ref, w in zip(key_refs, settings.logits, strict=True)]
    value = load_rows(v_ref, start, rows, settings.values, valid)
    maximum, share = load_vector(maximum_ref, start, rows, valid, jnp.inf), None
    if reference is not None:
        share = jnp.exp2(maximum - reference)
        if valid is not None:
            share = jnp.where(valid, share, 0.0)
        value = (value.astype(jnp.float32) * share[:, None]).astype(value.dtype)
    return Tile(
        keys=[split_tile(key, scale) for key, scale in zip(keys, (numbers.key, numbers.decode_key), strict=False)],
        value=split_tile(value, numbers.value),
        decode_value=split_tile(dy_over_mass.astype(dy.dtype), numbers.decode_value),
        maximum=maximum,
        mean=jnp.sum(dy_over_mass * y, axis=1) * numbers.mean,
        valid=valid,
        share=share,
    )


def pair_gradients(points: Tile, latents: Tile, numbers: Numbers) -> tuple[jax.Array, list[jax.Array]]:
    """Return the gather's weights and the gradients of the one or two logits, `[points, latents]`, up to their scales.

    The weights are not normalised: the masses have been divided out of `value`, `decode_value` and `mean`. With one
    exponential they are the scatter's, without the factors that make them the gather's.
    """
    raw = [multiply(k, q, (1, 1)) for k, q in zip(points.keys, latents.keys, strict=True)]
    if points.valid is not None:
        raw = [jnp.where(points.valid[:, None], x, -jnp.inf) for x in raw]
    if latents.valid is not None:
        raw = [jnp.where(latents.valid[None, :], x, -jnp.inf) for x in raw]
    decode_weights = jnp.exp2(raw[-1] * numbers.decode_factor - points.maximum[:, None])
    decode_slope = multiply(points.decode_value, latents.decode_value, (1, 1))
    if points.share is not None:
        slope = multiply(points.value, latents.value, (1, 1), start=decode_slope) - points.mean[:, None]
        return decode_weights, [decode_weights * (slope - points.share[:, None] * latents.mean[None, :])]
    weights = jnp.exp2(raw[0] * numbers.factor - latents.maximum[None, :])
    gradient = weights * (multiply(points.value, latents.value, (1, 1)) * numbers.slope - latents.mean[None, :])
    decode_gradient = decode_weights * (decode_slope * numbers.decode_slope - points.mean[:, None])
    return weights, [gradient + decode_gradient] if len(raw) == 1 else [gradient, decode_gradient]
