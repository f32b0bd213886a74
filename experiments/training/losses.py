"""Losses and metrics per sample, and per sample and frame; every one honours a mask of real points.

Fields are [B, N, C], series of frames [B, N, T, C]. Results are [B], or [B, T] where `per_frame` keeps frames apart.
Points where a mask is false count nowhere, whatever they hold.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

Field = Float[Array, "B N C"] | Float[Array, "B N T C"]
Mask = Bool[Array, "B N"] | None
Offset = Float[Array, " C"] | None
Result = Float[Array, " B"] | Float[Array, "B T"]


def relative_l2(
    prediction: Field, target: Field, mask: Mask = None, *, per_frame: bool = False, offset: Offset = None
) -> Result:
    """Return ‖prediction − target‖₂ / ‖target‖₂ over all points and channels (and frames), without an epsilon.

    Fields of which an `offset` [C] was subtracted are compared as they are: it counts in the size of the target only.
    It is the same in all units, also where squares of the values would not be float32 numbers, and its gradient is 0
    where prediction and target are equal. A target that is 0 everywhere has no relative error: the result is NaN, with
    gradient 0; the error of a prediction that is not finite is infinite.
    """
    return _relative(prediction, target, target if offset is None else target + offset, mask, per_frame)


def relative_to_spread(prediction: Field, target: Field, mask: Mask = None, *, fields: int) -> Result:
    """Return the root mean square over points of the error of fields in units of their spread, and over the `fields`.

    The spread of a field is the standard deviation of its channels together, so that predicting its mean is an error
    of 1 on the data which that was taken from. Gradients are those of `relative_l2`.
    """
    return _relative(prediction, target, jnp.full_like(target, (fields / target.shape[-1]) ** 0.5), mask, False)


def _relative(prediction: Field, target: Field, reference: Field, mask: Mask, per_frame: bool) -> Result:
    """Return ‖prediction − target‖₂ / ‖reference‖₂."""
    reference = _real(reference, mask)
    unit = _as_factor(_magnitude(reference, per_frame), target, per_frame)
    difference, scale = _squares(_real(prediction, mask) / unit - _real(target, mask) / unit, per_frame)
    norm = _total(jnp.square(reference / unit), per_frame)
    defined = norm != 0
    ratio = difference / jnp.where(defined, norm, 1.0)
    # The root has no derivative at 0, and where() alone would multiply an infinite one by 0.
    differs = ratio != 0
    error = jnp.where(differs, jnp.sqrt(jnp.where(differs, ratio, 1.0)), 0.0) * scale
    return jnp.where(defined, jnp.where(jnp.isnan(error), jnp.inf, error), jnp.nan)


def has_relative_error(
    target: Field, mask: Mask = None, *, per_frame: bool = False, offset: Offset = None
) -> Bool[Array, " B"] | Bool[Array, "B T"]:
    """Return which targets, with their `offset`, are not 0 everywhere, so that errors can be relative to them."""
    whole = target if offset is None else target + offset
    return jnp.any(_real(whole, mask) != 0, axis=_summed(target, per_frame))


def or_zero(errors: Array) -> Array:
    """Return errors with 0 for those that are not defined, which add nothing to a sum over samples."""
    return jnp.where(jnp.isnan(errors), 0.0, errors)


def mean_squared_error(prediction: Field, target: Field, mask: Mask = None, *, per_frame: bool = False) -> Result:
    """Return the mean of (prediction − target)² over the entries that count, 0 where none does.

    Beyond the range of float32 the mean itself, and only that, is 0 or infinite.
    """
    squares, scale = _squares(_real(prediction, mask) - _real(target, mask), per_frame)
    return squares / _entries(target, mask, per_frame) * scale * scale


def original_masked_error(
    prediction: Field, target: Field, active: Bool[Array, "B N"], real: Bool[Array, "B N"] | None = None
) -> Float[Array, " B"]:
    """Return Σ (prediction − target)² over active points, divided by the number of all `real` points and channels.

    The original's loss on series of layers: it shrinks with the active part of a sample. For comparison only.
    """
    squares = jnp.sum(jnp.square(_real(prediction, active) - _real(target, active)), axis=_summed(target, False))
    return squares / _entries(target, real, False)


def r_squared(prediction: Field, target: Field, mask: Mask = None, *, per_frame: bool = False) -> Result:
    """Return 1 − Σ(prediction − target)² / Σ(target − mean)², the mean being that of the sample (and frame).

    A target without any spread has 0, whatever the prediction.
    """
    axes = _summed(target, per_frame)
    varies = jnp.max(_real(target, mask, -jnp.inf), axis=axes) > jnp.min(_real(target, mask, jnp.inf), axis=axes)
    prediction, target = _in_units(prediction, target, mask, per_frame)
    residual, residual_scale = _squares(prediction - target, per_frame)
    mean = _total(target, per_frame) / _entries(target, mask, per_frame)
    spread, spread_scale = _squares(_real(target - _as_factor(mean, target, per_frame), mask), per_frame)
    ratio = residual / jnp.where(varies, spread, 1.0) * jnp.square(residual_scale / spread_scale)
    return jnp.where(varies, 1.0 - ratio, 0.0)


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


def _real(field: Field, mask: Mask, elsewhere: float = 0.0) -> Field:
    if mask is None:
        return field
    return jnp.where(mask.reshape(*mask.shape, *[1] * (field.ndim - 2)), field, elsewhere)


def _in_units(prediction: Field, target: Field, mask: Mask, per_frame: bool) -> tuple[Field, Field]:
    """Return both fields, 0 at masked points, in units of the target's largest magnitude."""
    real = _real(target, mask)
    unit = _as_factor(_magnitude(real, per_frame), target, per_frame)
    return _real(prediction, mask) / unit, real / unit


def _squares(values: Field, per_frame: bool) -> tuple[Result, Result]:
    """Return Σ (values / scale)² and the scale, a power of two near the largest magnitude.

    Squares of values of 1e-20 or 1e20 are no float32 numbers. Division by a power of two is exact, so that results in
    ordinary units are those of the plain sum, to the last bit.
    """
    scale = _magnitude(values, per_frame)
    return _total(jnp.square(values / _as_factor(scale, values, per_frame)), per_frame), scale


def _magnitude(values: Field, per_frame: bool) -> Result:
    """Return the largest power of two up to the largest magnitude, 1 where all values are 0; it has no gradient."""
    largest = jnp.max(jnp.abs(jax.lax.stop_gradient(values)), axis=_summed(values, per_frame))
    _, exponent = jnp.frexp(largest)
    # The ends keep the scale, and its reciprocal, among the normal numbers.
    return jnp.ldexp(jnp.ones_like(largest), jnp.clip(jnp.where(largest > 0, exponent - 1, 0), -126, 126))


def _total(values: Field, per_frame: bool) -> Result:
    return jnp.sum(values, axis=_summed(values, per_frame))


def _summed(values: Field, per_frame: bool) -> tuple[int, ...]:
    return (1, 3) if per_frame else tuple(range(1, values.ndim))


def _entries(field: Field, mask: Mask, per_frame: bool) -> Array:
    """Return how many entries count in each result; at least 1, so that it can divide."""
    per_point = field.shape[-1] if per_frame else field[0, 0].size
    points = jnp.float32(field.shape[1]) if mask is None else jnp.sum(mask, axis=1, dtype=jnp.float32)
    entries = jnp.maximum(points * per_point, 1.0)
    return entries[:, None] if per_frame and entries.ndim else entries


def _as_factor(values: Result, field: Field, per_frame: bool) -> Array:
    """Return results with axes of size 1, so that they broadcast over the entries that they summarize."""
    return values.reshape((-1, 1, field.shape[2], 1) if per_frame else (-1, *[1] * (field.ndim - 1)))
