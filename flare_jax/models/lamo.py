"""LaMO, latent Mamba operator: slice tokens as in Transolver, mixed by a state-space model (arXiv 2505.19105)."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flare_jax.checks import check_integer
from flare_jax.mixers.slice_attention import SliceAttention
from flare_jax.mixers.state_space import BidirectionalMamba2, Hydra, StateSpaceSizes
from flare_jax.models.slice_stack import SliceStack


class LaMO(SliceStack):
    """LaMO: learned slices gather from the points, a state-space layer runs along the slices, the points read back.

    On irregular meshes the layer is Hydra. With a `grid_shape` the points are those of a structured grid, last axis
    fastest, projected to the slices by convolutions, and the layer is a bidirectional Mamba-2. The order of the slices
    is that of the sequence; every block has its own slices (the authors' unshared variant).

    The state-space layer has `state_dim` states per channel, a filter of `conv_width` slices, and the inner width
    `expand · channel_dim` in heads of `state_space_head_dim` channels, which form `num_groups` groups. For these three
    None means 1, 64, 2 on irregular meshes and 2, 32, 1 on grids. The other options are those of `SliceStack` and
    `SliceAttention`. Raises ValueError for values out of range and for widths, heads or groups that do not divide.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        channel_dim: int = 256,
        num_blocks: int = 5,
        num_heads: int = 8,
        num_slices: int = 32,
        act: str = "gelu",
        mlp_ratio: float = 1.0,
        fun_dim: int = 0,
        grid_shape: tuple[int, ...] | None = None,
        unified_pos: bool = False,
        unified_pos_drop_input: bool = False,
        ref: int = 8,
        time_input: bool = False,
        dropout: float = 0.0,
        orthogonal_slice_init: bool = False,
        state_dim: int = 64,
        conv_width: int = 3,
        expand: int | None = None,
        state_space_head_dim: int | None = None,
        num_groups: int | None = None,
        remat: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        structured = grid_shape is not None
        layer = BidirectionalMamba2 if structured else Hydra
        sizes = StateSpaceSizes(
            channel_dim=channel_dim,
            state_dim=state_dim,
            conv_width=conv_width,
            expand=(2 if structured else 1) if expand is None else expand,
            head_dim=(32 if structured else 64) if state_space_head_dim is None else state_space_head_dim,
            num_groups=(1 if structured else 2) if num_groups is None else num_groups,
        )

        def make_mixer() -> SliceAttention:
            return SliceAttention(
                channel_dim,
                num_heads=num_heads,
                num_slices=num_slices,
                token_mixer=layer(sizes, dtype=dtype, rngs=rngs),
                grid_shape=grid_shape,
                orthogonal_slice_init=orthogonal_slice_init,
                drop_rate=dropout,
                dtype=dtype,
                rngs=rngs,
            )

        super().__init__(
            in_dim,
            out_dim,
            channel_dim=channel_dim,
            mixers=[make_mixer() for _ in range(check_integer("num_blocks", num_blocks))],
            mlp_ratio=mlp_ratio,
            act=act,
            fun_dim=fun_dim,
            grid_shape=grid_shape,
            unified_pos=unified_pos,
            unified_pos_drop_input=unified_pos_drop_input,
            ref=ref,
            time_input=time_input,
            remat=remat,
            dtype=dtype,
            rngs=rngs,
        )
