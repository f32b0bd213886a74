"""Position features of a structured grid that do not depend on the geometry (Transolver, arXiv 2402.02366)."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flare_jax.checks import check_integer
from flare_jax.layers.structured_grid import check_grid_shape


def unified_position_dim(grid_shape: tuple[int, ...], reference: int) -> int:
    """Return the number of features, `reference` to the power of the number of grid axes."""
    return check_integer("ref", reference) ** len(check_grid_shape(grid_shape))


def unified_positions(grid_shape: tuple[int, ...], reference: int) -> Float[Array, "N C"]:
    """Return the distances of all grid points to the `reference`^d points of a coarse grid, in float32.

    Both grids fill the unit cube with equidistant points, boundaries included, and are flattened with the first axis
    slowest. The features are a constant of the model, not a parameter.
    """
    axes = len(grid_shape)
    unified_position_dim(grid_shape, reference)
    squares = jnp.zeros((1,) * (2 * axes), jnp.float32)
    for axis, size in enumerate(grid_shape):
        # One small table per axis; only their broadcast sum has the size of the result.
        offsets = np.linspace(0, 1, size)[:, None] - np.linspace(0, 1, reference)
        shape = [1] * (2 * axes)
        shape[axis], shape[axes + axis] = offsets.shape
        squares = squares + jnp.asarray(np.square(offsets).reshape(shape), jnp.float32)
    return jnp.sqrt(squares).reshape(math.prod(grid_shape), reference**axes)


def check_unified_position(unified_pos: bool, grid_shape: tuple[int, ...] | None) -> None:
    """Raise if a model is to use these features without a grid."""
    if unified_pos and grid_shape is None:
        raise ValueError("unified_pos is True but grid_shape is None; give the shape of the grid, such as (85, 85)")
