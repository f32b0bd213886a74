"""Transolver: attention among learned slices of the points, on any mesh or a structured grid (arXiv 2402.02366)."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flare_jax.checks import check_integer
from flare_jax.mixers.slice_attention import SliceAttention
from flare_jax.mixers.slice_tokens import SliceTokenAttention
from flare_jax.models.slice_stack import SliceStack


class Transolver(SliceStack):
    """Transolver; with a `grid_shape` of 1 to 3 axes the variant for structured grids, points last axis fastest.

    `fun_dim` is the width of the function features `fx` of the call. On a structured grid the projections of the
    points are convolutions and the temperatures are clamped; `unified_pos` replaces the coordinates by distances to
    `ref`^d reference points and passes x on as function features, which the original does not:
    `unified_pos_drop_input` drops x as there, so that without `fx` the prediction ignores the input. `time_input`
    conditions on the `time` of the call. `act` is 'gelu' (exact), 'tanh', 'sigmoid', 'relu', 'leaky_relu' (slope 0.1),
    'softplus', 'ELU' or 'silu'. `orthogonal_slice_init` keeps the orthogonal start of the slice projections that the
    original overwrites. `remat` recomputes blocks in the backward pass. Raises ValueError for values out of range, and
    if `num_heads` does not divide `channel_dim`.
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
        remat: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        def make_mixer() -> SliceAttention:
            return SliceAttention(
                channel_dim,
                num_heads=num_heads,
                num_slices=num_slices,
                token_mixer=SliceTokenAttention(channel_dim, num_heads=num_heads, dtype=dtype, rngs=rngs),
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
