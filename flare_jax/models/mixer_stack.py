"""What the models compared with FLARE++ have in common: input map, pre-norm blocks around any mixer, output map."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_dtype, check_points, check_sizes, scaled_width
from flare_jax.layers.activations import RESIDUAL_MLP_ACTIVATIONS
from flare_jax.layers.dropout import Key, split_key
from flare_jax.layers.norms import FLAREPP_RMS_NORM_EPSILON, make_norm
from flare_jax.layers.output_projection import OutputProjection
from flare_jax.layers.padding import zero_padding
from flare_jax.layers.residual_mlp import ResidualMLP
from flare_jax.mixers.attention_statistics import root_mean_square
from flare_jax.mixers.flare_attention import FlareAttention
from flare_jax.mixers.mixer_options import MLP_IMPLEMENTATIONS, MixerConfig
from flare_jax.mixers.synthesized_routing import SynthesizedRouting
from flare_jax.models.flare import apply_block
from flare_jax.models.pieces import predict_in_pieces
from flare_jax.options import MAX_BLOCKS, MAX_LAYERS, MAX_RATIO, option

Statistics = dict[str, Float[Array, ""]]
_STREAM_EPSILON = 1e-8


@dataclass(frozen=True, kw_only=True)
class StackConfig(MixerConfig):
    """Options of a whole model around its mixers."""

    num_blocks: int = option(8, help="blocks", minimum=1, maximum=MAX_BLOCKS)
    act: str | None = option(None, help="activation; None: tanh form of GELU", choices=tuple(RESIDUAL_MLP_ACTIVATIONS))
    out_proj_norm: bool = option(True, help="normalise before the output map")
    num_layers_in_out_proj: int = option(
        2, help="inner layers of the input and output maps; -1: linear", minimum=-1, maximum=MAX_LAYERS
    )
    num_layers_ffn: int = option(
        0, help="inner layers of the feed-forward parts; -1: linear", minimum=-1, maximum=MAX_LAYERS
    )
    ffn_mlp_ratio: float = option(
        2.0, help="hidden width of feed-forward parts over channels", above=0, maximum=MAX_RATIO
    )
    mlp_implementation: str | None = option(
        None, help="kernel of the maps of the points; None: by device and shape", choices=MLP_IMPLEMENTATIONS
    )

    def check_together(self) -> None:
        """Raise ValueError for a hidden width below 1."""
        super().check_together()
        scaled_width("ffn_mlp_ratio", self.channel_dim, self.ffn_mlp_ratio)


class MixerBlock(nnx.Module):
    """Pre-norm block: `x + att(norm1 x)`, then `x + mlp(norm2 x)`, for any mixer."""

    def __init__(self, config: StackConfig, *, att: nnx.Module, mlp: ResidualMLP, rms_epsilon: float, dtype: DTypeLike):
        norm = {"rmsnorm": config.rmsnorm, "rms_epsilon": rms_epsilon, "dtype": dtype}
        self.norm1, self.norm2 = make_norm(config.channel_dim, **norm), make_norm(config.channel_dim, **norm)
        self.att, self.mlp = att, mlp

    def __call__(
        self,
        x: Float[Array, "B N C"],
        mask: Bool[Array, "B N"] | None = None,
        key: Key | None = None,
        uniforms: Float[Array, "B H N M"] | None = None,
    ) -> Float[Array, "B N C"]:
        """Apply the block; `key` is for dropout and noise, `uniforms` replace the draws of mixers with noise."""
        if isinstance(self.att, FlareAttention | SynthesizedRouting):
            return apply_block(x, mask, key, norm1=self.norm1, att=self.att, norm2=self.norm2, mlp=self.mlp)
        x = x + self._mixed(x, mask, key, uniforms)
        return self.mlp(x, norm=self.norm2, outer_residual=True)

    def statistics(
        self,
        x: Float[Array, "B N C"],
        mask: Bool[Array, "B N"] | None = None,
        key: Key | None = None,
        uniforms: Float[Array, "B H N M"] | None = None,
    ) -> Statistics:
        """Return root mean squares of what enters and leaves the mixer, and what the mixer says of itself."""
        normed = self.norm1(x)
        stream = root_mean_square(normed, mask)
        mixed = root_mean_square(self._mixed(x, mask, key, uniforms), mask)
        common = mixer_statistics(stream, mixed)
        return common | (self.att.statistics(normed, mask) if isinstance(self.att, SynthesizedRouting) else {})

    def _mixed(self, x: Array, mask: Array | None, key: Key | None, uniforms: Array | None) -> Float[Array, "B N C"]:
        return self.att(self.norm1(x), mask, key, *(() if uniforms is None else (uniforms,)))


class MixerStack(nnx.Module):
    """Input map, blocks, output map; the maps are residual MLPs. `rms_epsilon` is that of the RMS norms."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        config: StackConfig,
        *,
        blocks: Sequence[nnx.Module],
        rms_epsilon: float = FLAREPP_RMS_NORM_EPSILON,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_sizes(in_dim=in_dim, out_dim=out_dim)
        self.in_dim, self.dtype = in_dim, check_dtype(dtype)
        width, depth = config.channel_dim, config.num_layers_in_out_proj
        shared = {"num_layers": depth, "act": config.act, "dtype": dtype, "implementation": config.mlp_implementation}
        self.in_proj = ResidualMLP(in_dim, width, width, input_residual=False, embedding=True, **shared, rngs=rngs)
        self.blocks = nnx.List(blocks)
        self.out_proj = OutputProjection(
            width,
            width,
            out_dim,
            use_norm=config.out_proj_norm,
            rmsnorm=config.rmsnorm,
            rms_epsilon=rms_epsilon,
            **shared,
            rngs=rngs,
        )

    def applications(self) -> Sequence[nnx.Module]:
        """Return the blocks in the order of their application."""
        return list(self.blocks)

    def __call__(
        self,
        x: Float[Array, "B N C_in"],
        mask: Bool[Array, "B N"] | None = None,
        *,
        return_statistics: bool = False,
        points_per_piece: int | None = None,
    ) -> Float[Array, "B N C_out"] | tuple[Float[Array, "B N C_out"], dict[str, object]]:
        """Return the prediction in float32, with `return_statistics` also `blocks`, numbers of each block, and `mean`.

        Padded points (`mask` False) influence no real point, whatever they hold; their own outputs are meaningless.
        With `points_per_piece` blocks work on so many points at a time, for the same prediction in less memory. Raises
        ValueError if `x` is not [B, N, in_dim] or `mask` not a bool array [B, N], and for pieces of other mixers than
        those of FLARE and FLARE++.
        """
        if points_per_piece is not None and not return_statistics:
            check_points(x, mask, self.in_dim)
            return predict_in_pieces(self, x, mask, points_per_piece)
        return self.predict(x, mask, None, None, return_statistics)

    def predict(
        self,
        x: Float[Array, "B N C_in"],
        mask: Bool[Array, "B N"] | None,
        key: Key | None,
        uniforms: Sequence[Float[Array, "B H N M"]] | None,
        return_statistics: bool,
    ) -> Float[Array, "B N C_out"] | tuple[Float[Array, "B N C_out"], dict[str, object]]:
        """Return the same with a key for noise, or the draws of every block."""
        check_points(x, mask, self.in_dim)
        x = self.in_proj(zero_padding(x, mask))
        statistics = []
        for i, (block, block_key) in enumerate(zip(self.blocks, split_key(key, len(self.blocks)), strict=True)):
            arguments = (x, mask, block_key, None if uniforms is None else uniforms[i])
            if return_statistics:
                # Computed beside the prediction, so that asking for them cannot change it.
                statistics.append(block.statistics(*arguments))
            x = block(*arguments)
        prediction = self.out_proj(x).astype(jnp.float32)
        return (prediction, summarize(statistics)) if return_statistics else prediction


def feed_forward(
    config: StackConfig, *, residual: bool = False, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
) -> ResidualMLP:
    """Return the feed-forward part of a block, with `residual` connections where its widths agree."""
    return ResidualMLP(
        config.channel_dim,
        scaled_width("ffn_mlp_ratio", config.channel_dim, config.ffn_mlp_ratio),
        config.channel_dim,
        num_layers=config.num_layers_ffn,
        act=config.act,
        input_residual=residual,
        output_residual=residual,
        dtype=dtype,
        implementation=config.mlp_implementation,
        rngs=rngs,
    )


def mixer_statistics(stream: Float[Array, ""], mixed: Float[Array, ""]) -> Statistics:
    """Return the root mean squares of what enters and leaves a mixer, and their quotient."""
    return {
        "residual_stream_rms": stream,
        "mixer_out_rms": mixed,
        "mixer_over_stream": mixed / (stream + _STREAM_EPSILON),
    }


def summarize(blocks: Sequence[Statistics]) -> dict[str, object]:
    """Return the statistics of all blocks and their mean."""
    names = [name for name in blocks[0] if all(name in block for block in blocks)]
    mean = {name: jnp.stack([block[name] for block in blocks]).mean() for name in names}
    return {"blocks": list(blocks), "mean": mean}
