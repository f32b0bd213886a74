"""LaMO, latent Mamba operator: slice tokens as in Transolver, mixed by a state-space model (arXiv 2505.19105)."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flare_jax.mixers.slice_attention import GridSliceConfig, SliceAttention
from flare_jax.mixers.state_space import BidirectionalMamba2, Hydra, StateSpaceSizes
from flare_jax.models.slice_stack import GridInputConfig, SliceStack, SliceStackConfig
from flare_jax.options import MAX_HEADS, MAX_WIDTH, option


@dataclass(frozen=True, kw_only=True)
class LaMOConfig(GridInputConfig, GridSliceConfig, SliceStackConfig):
    """Options of LaMO."""

    state_dim: int = option(64, help="states per channel", minimum=1, maximum=MAX_WIDTH)
    conv_width: int = option(3, help="slices that the filter of the state-space layer covers", minimum=1, maximum=64)
    expand: int | None = option(
        None, help="inner width over channel_dim; None: 1 on irregular meshes, 2 on grids", minimum=1, maximum=64
    )
    state_space_head_dim: int | None = option(
        None,
        help="channels of its heads; None: 64 on irregular meshes, 32 on grids",
        minimum=1,
        maximum=MAX_WIDTH,
    )
    num_groups: int | None = option(
        None, help="groups of its heads; None: 2 on irregular meshes, 1 on grids", minimum=1, maximum=MAX_HEADS
    )

    @property
    def state_space_sizes(self) -> StateSpaceSizes:
        """Sizes of the state-space layer."""
        expand, head_dim, groups = (1, 64, 2) if self.grid_shape is None else (2, 32, 1)
        return StateSpaceSizes(
            channel_dim=self.channel_dim,
            state_dim=self.state_dim,
            conv_width=self.conv_width,
            expand=expand if self.expand is None else self.expand,
            head_dim=head_dim if self.state_space_head_dim is None else self.state_space_head_dim,
            num_groups=groups if self.num_groups is None else self.num_groups,
        )


class LaMO(SliceStack):
    """LaMO: learned slices gather from the points, a state-space layer runs along the slices, the points read back.

    On irregular meshes the layer is Hydra. With a `grid_shape` the points are those of a structured grid, last axis
    fastest, projected to the slices by convolutions, and the layer is a bidirectional Mamba-2. The order of the slices
    is that of the sequence; every block has its own slices (the authors' unshared variant).

    The state-space layer has `state_dim` states per channel, a filter of `conv_width` slices, and the inner width
    `expand · channel_dim` in heads of `state_space_head_dim` channels, which form `num_groups` groups. For these three
    None means 1, 64, 2 on irregular meshes and 2, 32, 1 on grids. Raises ValueError for widths, heads or groups that
    do not divide.
    """

    def __init__(
        self, in_dim: int, out_dim: int, config: LaMOConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ):
        sizes = config.state_space_sizes
        layer = Hydra if config.grid_shape is None else BidirectionalMamba2

        def make_mixer() -> SliceAttention:
            exchange = layer(sizes, dtype=dtype, rngs=rngs)
            return SliceAttention(config.channel_dim, config, token_mixer=exchange, dtype=dtype, rngs=rngs)

        mixers = [make_mixer() for _ in range(config.num_blocks)]
        super().__init__(in_dim, out_dim, config, mixers=mixers, dtype=dtype, rngs=rngs)
