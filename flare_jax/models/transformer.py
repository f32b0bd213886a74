"""Transformer on the points of a mesh, with full softmax attention of cost O(N²) (arXiv 1706.03762)."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flare_jax.checks import check_sizes
from flare_jax.mixers.self_attention import SelfAttentionBlock
from flare_jax.models.transformer_stack import TransformerStack


class Transformer(TransformerStack):
    """Transformer. `num_heads` defaults to `channel_dim // 16`; `implementation` is that of the attention.

    `act` 'gelu' or None is the exact GELU inside of the blocks and its tanh form in the projections, unless
    `in_out_proj_act` names another; 'silu' is the other choice. `num_layers_in_out_proj` counts inner layers, -1 is a
    single linear layer. Raises ValueError for values out of range, and if `num_heads` does not divide `channel_dim`.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        channel_dim: int = 64,
        num_blocks: int = 8,
        num_heads: int | None = None,
        act: str | None = None,
        in_out_proj_act: str | None = None,
        rmsnorm: bool = False,
        out_proj_norm: bool = True,
        num_layers_in_out_proj: int = 2,
        mlp_ratio: float = 4.0,
        implementation: str | None = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_sizes(channel_dim=channel_dim)

        def make_block() -> SelfAttentionBlock:
            return SelfAttentionBlock(
                channel_dim,
                num_heads=num_heads,
                mlp_ratio=mlp_ratio,
                act=act,
                rmsnorm=rmsnorm,
                implementation=implementation,
                dtype=dtype,
                rngs=rngs,
            )

        super().__init__(
            in_dim,
            out_dim,
            channel_dim=channel_dim,
            num_blocks=num_blocks,
            make_block=make_block,
            act=act,
            in_out_proj_act=in_out_proj_act,
            rmsnorm=rmsnorm,
            out_proj_norm=out_proj_norm,
            num_layers_in_out_proj=num_layers_in_out_proj,
            dtype=dtype,
            rngs=rngs,
        )
