"""Physics attention: points gather into learned slices, the slices exchange, points read back (arXiv 2402.02366)."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_head_dim, check_integer
from flare_jax.layers.dropout import Key, dropout
from flare_jax.layers.initializers import filled, linear_kernel
from flare_jax.layers.linear import Linear
from flare_jax.layers.structured_grid import GridConvolution, check_grid_shape
from flare_jax.mixers.slice_tokens import gather_slices, scatter_slices, slice_logits, slice_weights
from flare_jax.option_groups import heads, rate
from flare_jax.options import MAX_LATENTS, MAX_POINTS, Config, option

INITIAL_TEMPERATURE = 0.5
# Bounds of the temperature on structured grids (the original clamps there only).
GRID_TEMPERATURE_RANGE = (0.1, 5.0)


@dataclass(frozen=True, kw_only=True)
class SliceConfig(Config):
    """Options of mixers through slices of the points."""

    num_heads: int = heads(8)
    num_slices: int = option(32, help="slices of each head", minimum=1, maximum=MAX_LATENTS)
    orthogonal_slice_init: bool = option(
        False, help="start the slice projections orthogonal, which the original overwrites"
    )
    dropout: float = rate("the output of each mixer")


@dataclass(frozen=True, kw_only=True)
class GridConfig(Config):
    """The option of a structured grid."""

    grid_shape: tuple[int, ...] | None = option(
        None,
        help="axes of a structured grid, last axis fastest; None: any points",
        minimum=1,
        maximum=MAX_POINTS,
    )

    def check_together(self) -> None:
        """Raise for a grid of more than three axes."""
        super().check_together()
        if self.grid_shape is not None:
            check_grid_shape(self.grid_shape)


@dataclass(frozen=True, kw_only=True)
class GridSliceConfig(SliceConfig, GridConfig):
    """Options of slice attention, on any points or a structured grid."""


class SliceAttention(nnx.Module):
    """Token mixer of cost O(N·M): `token_mixer` mixes M slice tokens per head, which are weighted means of the points.

    Slice weights are `softmax_M(slice_proj(key_proj x) / temperature)` with one learned temperature per head.
    `token_mixer` maps slice tokens with merged heads [B, M, C] to the same shape. With a `grid_shape` the two
    projections of the points are convolutions of width 3 on that grid, and the temperature is clamped to [0.1, 5];
    `clamp_temperature` says whether it is elsewhere.
    """

    def __init__(
        self,
        channel_dim: int,
        config: GridSliceConfig,
        *,
        token_mixer: nnx.Module,
        clamp_temperature: bool | None = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        grid_shape = config.grid_shape
        self.head_dim = check_head_dim(channel_dim, config.num_heads)
        self.drop_rate = config.dropout
        self.clamped = grid_shape is not None if clamp_temperature is None else clamp_temperature
        self.key_proj = point_projection(channel_dim, channel_dim, grid_shape=grid_shape, dtype=dtype, rngs=rngs)
        self.value_proj = point_projection(channel_dim, channel_dim, grid_shape=grid_shape, dtype=dtype, rngs=rngs)
        self.slice_proj = slice_projection(
            self.head_dim, config.num_slices, orthogonal=config.orthogonal_slice_init, dtype=dtype, rngs=rngs
        )
        self.temperature = nnx.Param(filled((1, config.num_heads, 1, 1), INITIAL_TEMPERATURE))
        self.token_mixer = token_mixer
        self.out_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None, key: Key | None = None
    ) -> Float[Array, "B N C"]:
        """Mix the real points of each sample, which must be finite also in the padding; `key` is for dropout."""
        temperature = self.temperature[...].reshape(-1, 1)
        if self.clamped:
            temperature = jnp.clip(temperature, *GRID_TEMPERATURE_RANGE)
        weights = slice_weights(slice_logits(self._split_heads(self.key_proj(x)), self.slice_proj) / temperature, mask)
        y = mix_slices(weights, self._split_heads(self.value_proj(x)), self.token_mixer)
        return dropout(self.out_proj(y), self.drop_rate, key)

    def _split_heads(self, x: Float[Array, "B N C"]) -> Float[Array, "B N H D"]:
        return x.reshape(*x.shape[:2], -1, self.head_dim)


def mix_slices(
    weights: Float[Array, "B N H M"],
    values: Float[Array, "B N H D"],
    token_mixer: Callable[[Float[Array, "B M C"]], Float[Array, "B M C"]],
) -> Float[Array, "B N C"]:
    """Gather the values into slice tokens, mix these with their heads merged, and scatter them back to the points."""
    tokens = gather_slices(weights, values)
    mixed = token_mixer(tokens.reshape(*tokens.shape[:2], -1)).reshape(tokens.shape)
    return scatter_slices(weights, mixed).reshape(*values.shape[:2], -1)


def point_projection(
    in_dim: int, out_dim: int, *, grid_shape: tuple[int, ...] | None, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
) -> Linear | GridConvolution:
    """Return the projection of the points: a convolution on a structured grid, else a linear layer."""
    if grid_shape is None:
        return Linear(in_dim, out_dim, dtype=dtype, rngs=rngs)
    return GridConvolution(in_dim, out_dim, grid_shape=grid_shape, dtype=dtype, rngs=rngs)


def slice_projection(
    head_dim: int, num_slices: int, *, orthogonal: bool, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
) -> Linear:
    """Return the projection of a head to its slice logits, Normal(0, 0.02²) as in published models or orthogonal."""
    check_integer("num_slices", num_slices)
    initialize = jax.nn.initializers.orthogonal() if orthogonal else linear_kernel
    return Linear(head_dim, num_slices, kernel_init=initialize, dtype=dtype, rngs=rngs)
