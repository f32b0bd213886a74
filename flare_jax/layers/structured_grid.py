"""Points on a structured grid, stored as tokens with the last axis fastest, and convolutions among them."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flare_jax.checks import check_dtype, check_integer
from flare_jax.layers.initializers import fan_in_uniform
from flare_jax.params import Matrix

KERNEL_SIZE = 3
_SPATIAL_LETTERS = "XYZ"


class GridConvolution(nnx.Module):
    """Convolution of width 3 along every axis of a grid of 1 to 3 axes, stride 1, zero padding.

    `kernel` is [3, .., 3, C_in, C_out]; it and `bias` start as Uniform(±1/√(C_in·3^d)), the PyTorch default.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        grid_shape: tuple[int, ...],
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.grid_shape = check_grid_shape(grid_shape)
        self.dtype = check_dtype(dtype)
        check_integer("in_dim", in_dim)
        check_integer("out_dim", out_dim)
        window = (KERNEL_SIZE,) * len(grid_shape)
        initialize = fan_in_uniform(in_dim * math.prod(window))
        self.kernel = Matrix(initialize(rngs.params(), (*window, in_dim, out_dim), jnp.float32))
        self.bias = nnx.Param(initialize(rngs.params(), (out_dim,), jnp.float32))

    def __call__(self, x: Float[Array, "B N C_in"]) -> Float[Array, "B N C_out"]:
        """Convolve the points of the grid; raise ValueError if their number is not that of the grid."""
        check_grid_points(x.shape[1], self.grid_shape)
        field = x.astype(self.dtype).reshape(x.shape[0], *self.grid_shape, x.shape[-1])
        spatial = _SPATIAL_LETTERS[: len(self.grid_shape)]
        y = jax.lax.conv_general_dilated(
            field,
            self.kernel[...].astype(self.dtype),
            window_strides=(1,) * len(spatial),
            padding="SAME",
            dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
        )
        return y.reshape(*x.shape[:2], -1) + self.bias[...].astype(self.dtype)


def check_grid_shape(grid_shape: object) -> tuple[int, ...]:
    """Return the sizes of the grid as a tuple; raise unless they are 1 to 3 integers of at least 1."""
    if not isinstance(grid_shape, (tuple, list)) or not 1 <= len(grid_shape) <= len(_SPATIAL_LETTERS):
        raise ValueError(
            f"grid_shape is {grid_shape!r} but must be a tuple of 1 to 3 sizes, such as (85, 85); give one"
        )
    return tuple(check_integer("a size in grid_shape", size) for size in grid_shape)


def check_grid_points(num_points: int, grid_shape: tuple[int, ...]) -> None:
    """Raise unless a grid of this shape has `num_points` points."""
    if num_points != math.prod(grid_shape):
        raise ValueError(
            f"x has {num_points} points but grid_shape {grid_shape} has {math.prod(grid_shape)}; "
            "pass all points of the grid, last axis fastest, or build the model with the grid_shape of the data"
        )


def check_no_mask(mask: jax.Array | None) -> None:
    """Raise if there is a mask: a convolution reads the neighbours of every point of the grid, padding or not."""
    if mask is not None:
        raise ValueError(
            f"mask has shape {mask.shape} but a model on a structured grid uses all its points; "
            "pass mask=None, or build the model with grid_shape=None for data with padded points"
        )
