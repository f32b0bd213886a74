"""FLARE whose stack of blocks is applied several times with the same weights (code of arXiv 2508.12594)."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array

from flare_jax.checks import check_depths, check_integer, scaled_width
from flare_jax.models.flare import FLARE


class Loopy(FLARE):
    """FLARE that runs its `num_blocks` blocks in order, `num_passes` times.

    Keys and values share `num_layers_kv_proj` and `kv_proj_mlp_ratio`; everything else is as in FLARE. With scores
    there is one array per application, `num_passes · num_blocks` in all.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        channel_dim: int = 64,
        num_blocks: int = 8,
        num_passes: int = 1,
        num_heads: int | None = None,
        num_latents: int,
        act: str | None = None,
        rmsnorm: bool = False,
        out_proj_norm: bool = True,
        num_layers_in_out_proj: int = 2,
        attn_scale: str | float = "one",
        num_layers_kv_proj: int = 3,
        kv_proj_mlp_ratio: float = 1.0,
        num_layers_ffn: int = 3,
        ffn_mlp_ratio: float = 1.0,
        dtype: DTypeLike = jnp.float32,
        implementation: str | None = None,
        mlp_implementation: str | None = None,
        rngs: nnx.Rngs,
    ):
        # Checked here under the names of this model, which the class below does not know.
        check_depths(num_layers_kv_proj=num_layers_kv_proj)
        check_integer("channel_dim", channel_dim)
        scaled_width("kv_proj_mlp_ratio", channel_dim, kv_proj_mlp_ratio)
        self.num_passes = check_integer("num_passes", num_passes)
        super().__init__(
            in_dim,
            out_dim,
            channel_dim=channel_dim,
            num_blocks=num_blocks,
            num_heads=num_heads,
            num_latents=num_latents,
            act=act,
            rmsnorm=rmsnorm,
            out_proj_norm=out_proj_norm,
            num_layers_in_out_proj=num_layers_in_out_proj,
            attn_scale=attn_scale,
            num_layers_k_proj=num_layers_kv_proj,
            num_layers_v_proj=num_layers_kv_proj,
            k_proj_mlp_ratio=kv_proj_mlp_ratio,
            v_proj_mlp_ratio=kv_proj_mlp_ratio,
            num_layers_ffn=num_layers_ffn,
            ffn_mlp_ratio=ffn_mlp_ratio,
            dtype=dtype,
            implementation=implementation,
            mlp_implementation=mlp_implementation,
            rngs=rngs,
        )

    def applications(self) -> Sequence[Callable[..., Array]]:
        """Return the blocks, all of them as often as there are passes."""
        return list(self.blocks) * self.num_passes
