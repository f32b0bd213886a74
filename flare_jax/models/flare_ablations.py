"""FLARE with the options of the paper's ablations: shared latents, self-attention among latents (arXiv 2508.12594)."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flare_jax.checks import check_depths, check_sizes, scaled_width
from flare_jax.layers.output_projection import OutputProjection
from flare_jax.layers.residual_mlp import ResidualMLP
from flare_jax.mixers.flare_attention import FlareAttention
from flare_jax.models.flare import FLAREBlock, FLAREStack


class FLAREAblations(FLAREStack):
    """FLARE with layer norms only, scale 1 and one depth and width ratio for key and value projections.

    `shared_latents` gives all heads of a block the same latents. `num_latent_blocks` inserts that many transformer
    blocks among the latents of every FLARE block; it excludes `shared_latents`, `implementation` and the scores.
    `num_heads` defaults to `channel_dim // 8`; `num_layers_*` count inner layers, -1 is a single linear layer.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        channel_dim: int = 64,
        num_blocks: int = 8,
        num_heads: int | None = None,
        num_latents: int,
        act: str | None = None,
        num_layers_kv_proj: int = 3,
        num_layers_mlp: int = 3,
        num_layers_in_out_proj: int = 2,
        mlp_ratio: float = 1.0,
        kv_proj_ratio: float = 1.0,
        in_out_proj_ratio: float = 1.0,
        out_proj_ln: bool = True,
        shared_latents: bool = False,
        num_latent_blocks: int = 0,
        dtype: DTypeLike = jnp.float32,
        implementation: str | None = None,
        mlp_implementation: str | None = None,
        rngs: nnx.Rngs,
    ):
        check_sizes(in_dim=in_dim, out_dim=out_dim, channel_dim=channel_dim, num_blocks=num_blocks)
        check_depths(
            num_layers_in_out_proj=num_layers_in_out_proj,
            num_layers_kv_proj=num_layers_kv_proj,
            num_layers_mlp=num_layers_mlp,
        )
        scaled_width("kv_proj_ratio", channel_dim, kv_proj_ratio)
        mlp_hidden = scaled_width("mlp_ratio", channel_dim, mlp_ratio)
        in_out_hidden = scaled_width("in_out_proj_ratio", channel_dim, in_out_proj_ratio)

        def make_block() -> FLAREBlock:
            att = FlareAttention(
                channel_dim,
                num_heads=channel_dim // 8 if num_heads is None else num_heads,
                num_latents=num_latents,
                num_layers_k_proj=num_layers_kv_proj,
                num_layers_v_proj=num_layers_kv_proj,
                k_proj_mlp_ratio=kv_proj_ratio,
                v_proj_mlp_ratio=kv_proj_ratio,
                act=act,
                shared_latents=shared_latents,
                num_latent_blocks=num_latent_blocks,
                dtype=dtype,
                implementation=implementation,
                mlp_implementation=mlp_implementation,
                rngs=rngs,
            )
            mlp = ResidualMLP(
                channel_dim,
                mlp_hidden,
                channel_dim,
                num_layers=num_layers_mlp,
                act=act,
                dtype=dtype,
                implementation=mlp_implementation,
                rngs=rngs,
            )
            return FLAREBlock(channel_dim, att=att, mlp=mlp, dtype=dtype)

        super().__init__(
            in_dim,
            in_proj=ResidualMLP(
                in_dim,
                in_out_hidden,
                channel_dim,
                num_layers=num_layers_in_out_proj,
                act=act,
                input_residual=False,
                embedding=True,
                dtype=dtype,
                implementation=mlp_implementation,
                rngs=rngs,
            ),
            blocks=[make_block() for _ in range(num_blocks)],
            out_proj=OutputProjection(
                channel_dim,
                in_out_hidden,
                out_dim,
                num_layers=num_layers_in_out_proj,
                act=act,
                use_norm=out_proj_ln,
                dtype=dtype,
                implementation=mlp_implementation,
                rngs=rngs,
            ),
            dtype=dtype,
        )
