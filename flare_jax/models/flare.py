"""FLARE, a neural PDE surrogate of cost O(N·M) on any set of points (arXiv 2508.12594)."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_depths, check_dtype, check_points, check_sizes, scaled_width
from flare_jax.layers.dropout import Key
from flare_jax.layers.norms import RMS_NORM_EPSILON, LayerNorm, RMSNorm, make_norm
from flare_jax.layers.output_projection import OutputProjection
from flare_jax.layers.padding import zero_padding
from flare_jax.layers.residual_mlp import ResidualMLP
from flare_jax.mixers.flare_attention import FlareAttention
from flare_jax.mixers.synthesized_routing import SynthesizedRouting
from flare_jax.models.pieces import predict_in_pieces


class FLAREBlock(nnx.Module):
    """Pre-norm block: `x + att(norm1 x)`, then `x + mlp(norm2 x)`."""

    def __init__(
        self,
        channel_dim: int,
        *,
        att: FlareAttention | SynthesizedRouting,
        mlp: ResidualMLP,
        rmsnorm: bool = False,
        rms_epsilon: float = RMS_NORM_EPSILON,
        dtype: DTypeLike = jnp.float32,
    ):
        norm = {"rmsnorm": rmsnorm, "rms_epsilon": rms_epsilon, "dtype": dtype}
        self.norm1 = make_norm(channel_dim, **norm)
        self.att = att
        self.norm2 = make_norm(channel_dim, **norm)
        self.mlp = mlp

    def __call__(
        self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None, key: Key | None = None
    ) -> Float[Array, "B N C"]:
        """Apply the block."""
        return apply_block(x, mask, key, norm1=self.norm1, att=self.att, norm2=self.norm2, mlp=self.mlp)

    def scores(self, x: Float[Array, "B N C"]) -> Float[Array, "B H M N"]:
        """Return the scaled attention logits of the block for its input."""
        return self.att.scores(self.norm1(x))


def apply_block(
    x: Float[Array, "B N C"],
    mask: Bool[Array, "B N"] | None,
    key: Key | None,
    *,
    norm1: LayerNorm | RMSNorm,
    att: FlareAttention | SynthesizedRouting,
    norm2: LayerNorm | RMSNorm,
    mlp: ResidualMLP,
) -> Float[Array, "B N C"]:
    """Apply a block: a fused kernel for keys and values, the mixer, a fused kernel for all the rest."""
    if key is not None and (att.attn_drop or att.proj_drop):
        # Dropout of the mixer's output stands between what the last kernel would fuse.
        x = x + att(norm1(x), mask, key)
        return mlp(x, norm=norm2, outer_residual=True)
    mixed = att.mix(x, mask, norm=norm1)
    return mlp(mixed, projection=att.out_proj, skip=x, norm=norm2, outer_residual=True)


class FLAREStack(nnx.Module):
    """Input projection, FLARE blocks, output projection: the forward pass that the FLARE models have in common."""

    def __init__(
        self,
        in_dim: int,
        *,
        in_proj: ResidualMLP,
        blocks: Sequence[nnx.Module],
        out_proj: OutputProjection,
        dtype: DTypeLike = jnp.float32,
    ):
        self.in_dim = in_dim
        self.dtype = check_dtype(dtype)
        self.in_proj = in_proj
        self.blocks = nnx.List(blocks)
        self.out_proj = out_proj

    def applications(self) -> Sequence[Callable[..., Array]]:
        """Return the blocks in the order of their application; each has a method `scores` besides its call."""
        return list(self.blocks)

    def __call__(
        self,
        x: Float[Array, "B N C_in"],
        mask: Bool[Array, "B N"] | None = None,
        *,
        return_scores: bool = False,
        points_per_piece: int | None = None,
    ) -> Float[Array, "B N C_out"] | tuple[Float[Array, "B N C_out"], tuple[Float[Array, "B H M N"], ...]]:
        """Return the prediction in float32, with `return_scores` also the scaled logits of every block.

        Padded points (`mask` False) influence no real point, whatever they hold; their own outputs are meaningless.
        With `points_per_piece` blocks work on so many points at a time, for the same prediction in less memory. Raises
        ValueError if `x` is not [B, N, in_dim] or `mask` not a bool array [B, N], and for pieces of models without.
        """
        check_points(x, mask, self.in_dim)
        if points_per_piece is not None and not return_scores:
            return predict_in_pieces(self, x, mask, points_per_piece)
        x = self.in_proj(zero_padding(x, mask))
        scores = []
        for block in self.applications():
            if return_scores:
                # The logits are computed beside the prediction, so that asking for them cannot change it.
                scores.append(block.scores(x))
            x = block(x, mask)
        prediction = self.out_proj(x).astype(jnp.float32)
        return (prediction, tuple(scores)) if return_scores else prediction


class FLARE(FLAREStack):
    """FLARE model. Every block has its own `num_latents` latents per head, keys and values from residual MLPs.

    `num_heads` defaults to `channel_dim // 8`. `act` is 'gelu' (tanh form), 'silu' or None for the former.
    `num_layers_*` count the inner layers of a residual MLP, -1 is a single linear layer. `attn_scale` is 'one',
    'sqrt' (1/√D) or a positive number; `qk_norm` normalises latents and keys per head. `implementation` names the
    kernel of the mixer, `mlp_implementation` that of the residual MLPs; None chooses. Raises ValueError for values out
    of range, and if `num_heads` does not divide `channel_dim`.
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
        num_layers_k_proj: int = 3,
        num_layers_v_proj: int = 3,
        k_proj_mlp_ratio: float = 1.0,
        v_proj_mlp_ratio: float = 1.0,
        num_layers_ffn: int = 3,
        ffn_mlp_ratio: float = 1.0,
        qk_norm: bool = False,
        dtype: DTypeLike = jnp.float32,
        implementation: str | None = None,
        mlp_implementation: str | None = None,
        rngs: nnx.Rngs,
    ):
        check_sizes(in_dim=in_dim, out_dim=out_dim, channel_dim=channel_dim, num_blocks=num_blocks)
        check_depths(num_layers_in_out_proj=num_layers_in_out_proj, num_layers_ffn=num_layers_ffn)
        ffn_hidden = scaled_width("ffn_mlp_ratio", channel_dim, ffn_mlp_ratio)

        def make_block() -> FLAREBlock:
            att = FlareAttention(
                channel_dim,
                num_heads=channel_dim // 8 if num_heads is None else num_heads,
                num_latents=num_latents,
                attn_scale=attn_scale,
                num_layers_k_proj=num_layers_k_proj,
                num_layers_v_proj=num_layers_v_proj,
                k_proj_mlp_ratio=k_proj_mlp_ratio,
                v_proj_mlp_ratio=v_proj_mlp_ratio,
                qk_norm=qk_norm,
                rmsnorm=rmsnorm,
                act=act,
                dtype=dtype,
                implementation=implementation,
                mlp_implementation=mlp_implementation,
                rngs=rngs,
            )
            mlp = ResidualMLP(
                channel_dim,
                ffn_hidden,
                channel_dim,
                num_layers=num_layers_ffn,
                act=act,
                dtype=dtype,
                implementation=mlp_implementation,
                rngs=rngs,
            )
            return FLAREBlock(channel_dim, att=att, mlp=mlp, rmsnorm=rmsnorm, dtype=dtype)

        super().__init__(
            in_dim,
            in_proj=ResidualMLP(
                in_dim,
                channel_dim,
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
