"""Losses and metrics per sample, and per sample and frame; every one honours a mask of real points.

Fields are [B, N, C], series of frames [B, N, T, C]. Results are [B], or [B, T] where `per_frame` keeps frames apart.
Points where a mask is false count nowhere, whatever they hold.
"""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

Field = Float[Array, "B N C"] | Float[Array, "B N T C"]
Mask = Bool[Array, "B N"] | None
Result = Float[Array, " B"] | Float[Array, "B T"]


def relative_l2(prediction: Field, target: Field, mask: Mask = None, *, per_frame: bool = False) -> Result:
    """Return ‖prediction − target‖₂ / ‖target‖₂ over all points and channels (and frames), without an epsilon."""
    prediction, target = _real(prediction, mask), _real(target, mask)
    difference = _total(jnp.square(prediction - target), per_frame)
    return jnp.sqrt(difference / _total(jnp.square(target), per_frame))


def mean_squared_error(prediction: Field, target: Field, mask: Mask = None, *, per_frame: bool = False) -> Result:
    """Return the mean of (prediction − target)² over the entries that count, 0 where none does."""
    squares = _total(jnp.square(_real(prediction, mask) - _real(target, mask)), per_frame)
    return squares / _entries(target, mask, per_frame)


def r_squared(prediction: Field, target: Field, mask: Mask = None, *, per_frame: bool = False) -> Result:
    """Return 1 − Σ(prediction − target)² / Σ(target − mean)², the mean being that of the sample (and frame).

    A target without any spread has 0, whatever the prediction.
    """
    residual = _total(jnp.square(_real(prediction, mask) - _real(target, mask)), per_frame)
    mean = _total(_real(target, mask), per_frame) / _entries(target, mask, per_frame)
    mean = mean.reshape(_broadcast_shape(target, per_frame))
    spread = _total(jnp.square(_real(target - mean, mask)), per_frame)
    return jnp.where(spread > 0, 1.0 - residual / jnp.where(spread > 0, spread, 1.0), 0.0)


def relative_gradient_l2(
    prediction: Float[Array, "B N C"], target: Float[Array, "B N C"], grid_shape: tuple[int, int]
) -> Float[Array, " B"]:
    """Return the relative L2 errors of both central differences on a grid, summed: the gradient term of Darcy's loss.

    The outermost ring of the prediction is set to 0, and beyond the grid both fields are 0; the target keeps its ring.
    Spacings cancel. Points after the first height · width are padding. Source: FNO and Transolver's Darcy loss.
    """
    height, width = grid_shape
    fields = [field[:, : height * width].reshape(-1, height, width, field.shape[-1]) for field in (prediction, target)]
    inside = jnp.pad(fields[0][:, 1:-1, 1:-1], [(0, 0), (1, 1), (1, 1), (0, 0)])
    return sum(
        relative_l2(*(_central_difference(field, axis).reshape(len(field), height * width, -1) for field in pair))
        for axis, pair in ((1, (inside, fields[1])), (2, (inside, fields[1])))
    )


def original_relative_l2(
    prediction: Float[Array, "B N C"], target: Float[Array, "B N C"], mask: Mask, mean: float, std: float
) -> Float[Array, " B"]:
    """Return ‖s (p − t)‖ / ‖s t + m‖, the original's expression on LPBF.

    The original decodes fields that were never encoded, with mean m and std s of three random numbers; m dominates the
    denominator, so that the value is much smaller than the relative error. For comparison with its numbers only.
    """
    return relative_l2(std * prediction + mean, std * target + mean, mask)


def _central_difference(field: Float[Array, "B H W C"], axis: int) -> Float[Array, "B H W C"]:
    """Return f(i + 1) − f(i − 1) along an axis of a grid beyond which f is 0."""
    ends = [(0, 0)] * field.ndim
    ends[axis] = (1, 1)
    padded, size = jnp.pad(field, ends), field.shape[axis]
    after = jnp.take(padded, jnp.arange(2, size + 2), axis)
    return after - jnp.take(padded, jnp.arange(size), axis)


def _real(field: Field, mask: Mask) -> Field:
    if mask is None:
        return field
    return jnp.where(mask.reshape(*mask.shape, *[1] * (field.ndim - 2)), field, 0.0)


def _total(values: Field, per_frame: bool) -> Result:
    return jnp.sum(values, axis=(1, 3) if per_frame else tuple(range(1, values.ndim)))


def _entries(field: Field, mask: Mask, per_frame: bool) -> Array:
    """Return how many entries count in each result; at least 1, so that it can divide."""
    per_point = field.shape[-1] if per_frame else field[0, 0].size
    points = jnp.float32(field.shape[1]) if mask is None else jnp.sum(mask, axis=1, dtype=jnp.float32)
    entries = jnp.maximum(points * per_point, 1.0)
    return entries[:, None] if per_frame and entries.ndim else entries


def _broadcast_shape(field: Field, per_frame: bool) -> tuple[int, ...]:
    return (-1, 1, field.shape[2], 1) if per_frame else (-1, *[1] * (field.ndim - 1))
