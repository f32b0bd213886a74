"""FLARE whose blocks can share one feed-forward part and one attention, optionally gated (code of arXiv 2508.12594)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_depths, check_sizes, scaled_width
from flare_jax.layers.norms import LayerNorm, RMSNorm, make_norm
from flare_jax.layers.output_projection import OutputProjection
from flare_jax.layers.residual_mlp import ResidualMLP
from flare_jax.mixers.flare_attention import FlareAttention
from flare_jax.models.flare import FLAREStack, apply_block


@dataclass(frozen=True)
class CompletedBlock:
    """A FLARE block of norms, attention and feed-forward part, of which the model may own some."""

    norm1: LayerNorm | RMSNorm
    att: FlareAttention
    norm2: LayerNorm | RMSNorm
    mlp: ResidualMLP

    def __call__(self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None) -> Float[Array, "B N C"]:
        """Apply the block."""
        return apply_block(x, mask, None, norm1=self.norm1, att=self.att, norm2=self.norm2, mlp=self.mlp)

    def scores(self, x: Float[Array, "B N C"]) -> Float[Array, "B H M N"]:
        """Return the scaled attention logits of the block for its input."""
        return self.att.scores(self.norm1(x))


class UnloopyBlock(nnx.Module):
    """The norms of a FLARE block, and its attention and feed-forward part unless the model shares them (None)."""

    def __init__(
        self,
        channel_dim: int,
        *,
        att: FlareAttention | None,
        ffn: ResidualMLP | None,
        rmsnorm: bool,
        dtype: DTypeLike = jnp.float32,
    ):
        self.norm1 = make_norm(channel_dim, rmsnorm=rmsnorm, dtype=dtype)
        self.att = att
        self.norm2 = make_norm(channel_dim, rmsnorm=rmsnorm, dtype=dtype)
        self.ffn = ffn


class Unloopy(FLAREStack):
    """FLARE with `shared_ffn` and `shared_att`: one such part, latents included, for all blocks; norms are per block.

    `gating` multiplies the merged heads of the attention by the sigmoid of a residual MLP with
    `num_layers_gating_proj` inner layers and hidden width `int(channel_dim · gating_proj_mlp_ratio)` (arXiv
    2505.06708). Keys and values share `num_layers_kv_proj` and `kv_proj_mlp_ratio`; everything else is as in FLARE.
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
        rmsnorm: bool = False,
        out_proj_norm: bool = True,
        num_layers_in_out_proj: int = 2,
        attn_scale: str | float = "one",
        num_layers_kv_proj: int = 3,
        kv_proj_mlp_ratio: float = 1.0,
        num_layers_ffn: int = 3,
        ffn_mlp_ratio: float = 1.0,
        shared_ffn: bool = False,
        shared_att: bool = False,
        gating: bool = False,
        num_layers_gating_proj: int = 3,
        gating_proj_mlp_ratio: float = 1.0,
        dtype: DTypeLike = jnp.float32,
        implementation: str | None = None,
        mlp_implementation: str | None = None,
        rngs: nnx.Rngs,
    ):
        check_sizes(in_dim=in_dim, out_dim=out_dim, channel_dim=channel_dim, num_blocks=num_blocks)
        check_depths(
            num_layers_in_out_proj=num_layers_in_out_proj,
            num_layers_ffn=num_layers_ffn,
            num_layers_kv_proj=num_layers_kv_proj,
        )
        scaled_width("kv_proj_mlp_ratio", channel_dim, kv_proj_mlp_ratio)
        ffn_hidden = scaled_width("ffn_mlp_ratio", channel_dim, ffn_mlp_ratio)

        def make_att() -> FlareAttention:
            return FlareAttention(
                channel_dim,
                num_heads=channel_dim // 8 if num_heads is None else num_heads,
                num_latents=num_latents,
                attn_scale=attn_scale,
                num_layers_k_proj=num_layers_kv_proj,
                num_layers_v_proj=num_layers_kv_proj,
                k_proj_mlp_ratio=kv_proj_mlp_ratio,
                v_proj_mlp_ratio=kv_proj_mlp_ratio,
                rmsnorm=rmsnorm,
                act=act,
                gating=gating,
                num_layers_gating_proj=num_layers_gating_proj,
                gating_proj_mlp_ratio=gating_proj_mlp_ratio,
                dtype=dtype,
                implementation=implementation,
                mlp_implementation=mlp_implementation,
                rngs=rngs,
            )

        def make_mlp(in_width: int, hidden: int, num_layers: int, input_residual: bool) -> ResidualMLP:
            return ResidualMLP(
                in_width,
                hidden,
                channel_dim,
                num_layers=num_layers,
                act=act,
                input_residual=input_residual,
                embedding=not input_residual,
                dtype=dtype,
                implementation=mlp_implementation,
                rngs=rngs,
            )

        def make_ffn() -> ResidualMLP:
            return make_mlp(channel_dim, ffn_hidden, num_layers_ffn, True)

        blocks = [
            UnloopyBlock(
                channel_dim,
                att=None if shared_att else make_att(),
                ffn=None if shared_ffn else make_ffn(),
                rmsnorm=rmsnorm,
                dtype=dtype,
            )
            for _ in range(num_blocks)
        ]
        self.att = make_att() if shared_att else None
        self.ffn = make_ffn() if shared_ffn else None
        super().__init__(
            in_dim,
            in_proj=make_mlp(in_dim, channel_dim, num_layers_in_out_proj, False),
            blocks=blocks,
            out_proj=OutputProjection(
                channel_dim,
                channel_dim,
                out_dim,
                num_layers=num_layers_in_out_proj,
                act=act,
                use_norm=out_proj_norm,
                rmsnorm=rmsnorm,
                dtype=dtype,
                implementation=mlp_implementation,
                rngs=rngs,
            ),
            dtype=dtype,
        )

    def applications(self) -> Sequence[Callable[..., Array]]:
        """Return every block completed by the attention and the feed-forward part that the model shares."""
        return [
            CompletedBlock(
                block.norm1,
                block.att if self.att is None else self.att,
                block.norm2,
                block.ffn if self.ffn is None else self.ffn,
            )
            for block in self.blocks
        ]
