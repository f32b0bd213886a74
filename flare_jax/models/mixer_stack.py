"""What the models compared with FLARE++ have in common: pre-norm blocks around any mixer, and their statistics."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_points, scaled_width
from flare_jax.layers.dropout import Key
from flare_jax.layers.norms import FLAREPP_RMS_NORM_EPSILON
from flare_jax.layers.residual_mlp import ResidualMLP
from flare_jax.mixers.attention_statistics import root_mean_square
from flare_jax.mixers.flare_attention import FlareAttention
from flare_jax.mixers.routing_latents import RoutingLatents, prepare_together
from flare_jax.mixers.synthesized_routing import SynthesizedRouting
from flare_jax.models.flare import FLAREBlock
from flare_jax.models.pieces import check_alone, predict_in_pieces
from flare_jax.models.stack import ProjectedStack, StackConfig
from flare_jax.option_groups import MixerConfig, depth, ratio, width

Statistics = dict[str, Float[Array, ""]]
# What a stack gives its mixers: uniform draws of their noise, or latents that were made for all of them at once.
Beside = Float[Array, "B H N M"] | RoutingLatents
_STREAM_EPSILON = 1e-8


@dataclass(frozen=True, kw_only=True)
class MixerStackConfig(StackConfig, MixerConfig):
    """Options of a whole model around its mixers."""

    channel_dim: int = width(128)
    num_layers_ffn: int = depth(0, "feed-forward parts")
    ffn_mlp_ratio: float = ratio(2.0, "feed-forward parts", unless=("num_layers_ffn", -1))

    def check_together(self) -> None:
        """Raise ValueError for a hidden width below 1."""
        super().check_together()
        scaled_width("ffn_mlp_ratio", self.channel_dim, self.ffn_mlp_ratio)


class MixerBlock(FLAREBlock):
    """Pre-norm block: `x + att(norm1 x)`, then `x + mlp(norm2 x)`, for any mixer."""

    def __call__(
        self,
        x: Float[Array, "B N C"],
        mask: Bool[Array, "B N"] | None = None,
        key: Key | None = None,
        beside: Beside | None = None,
    ) -> Float[Array, "B N C"]:
        """Apply the block; `key` is for dropout and noise, `beside` what the stack gives a mixer of this kind."""
        if isinstance(self.att, FlareAttention | SynthesizedRouting):
            return super().__call__(x, mask, key, beside)
        x = x + self._mixed(x, mask, key, beside)
        return self.mlp(x, norm=self.norm2, outer_residual=True)

    def statistics(
        self,
        x: Float[Array, "B N C"],
        mask: Bool[Array, "B N"] | None = None,
        key: Key | None = None,
        beside: Beside | None = None,
    ) -> Statistics:
        """Return root mean squares of what enters and leaves the mixer, and what the mixer says of itself."""
        normed = self.norm1(x)
        stream = root_mean_square(normed, mask)
        mixed = root_mean_square(self._mixed(x, mask, key, beside), mask)
        common = mixer_statistics(stream, mixed)
        return common | (self.att.statistics(normed, mask) if isinstance(self.att, SynthesizedRouting) else {})

    def _mixed(self, x: Array, mask: Array | None, key: Key | None, beside: Beside | None) -> Float[Array, "B N C"]:
        without = beside is None or isinstance(self.att, SynthesizedRouting)
        return self.att(self.norm1(x), mask, key, *(() if without else (beside,)))


class MixerStack(ProjectedStack):
    """A stack whose blocks tell statistics of their mixers; `rms_epsilon` is that of the RMS norms."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        config: MixerStackConfig,
        *,
        blocks: Iterable[nnx.Module],
        rms_epsilon: float = FLAREPP_RMS_NORM_EPSILON,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        super().__init__(in_dim, out_dim, config, blocks=blocks, rms_epsilon=rms_epsilon, dtype=dtype, rngs=rngs)

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
        ValueError if `x` is not [B, N, in_dim] or `mask` not a bool array [B, N], for pieces of other mixers than
        those of FLARE and FLARE++, and for pieces with `return_statistics`.
        """
        if points_per_piece is not None:
            check_alone(points_per_piece, return_statistics=return_statistics)
            check_points(x, mask, self.in_dim)
            return predict_in_pieces(self, x, mask, points_per_piece)
        return self.apply(x, mask, None, None, return_statistics)

    def apply(
        self,
        x: Float[Array, "B N C_in"],
        mask: Bool[Array, "B N"] | None,
        key: Key | None,
        uniforms: Sequence[Float[Array, "B H N M"]] | None,
        return_statistics: bool,
    ) -> Float[Array, "B N C_out"] | tuple[Float[Array, "B N C_out"], dict[str, object]]:
        """Return the same with a key for noise, or the draws of every block."""
        observe = (lambda block, *inputs: block.statistics(*inputs)) if return_statistics else None
        beside = self._latents() if uniforms is None else uniforms
        x, statistics = self.apply_blocks(self.embed(x, mask), mask, key, beside=beside, observe=observe)
        return (self.predict(x), summarize(statistics)) if return_statistics else self.predict(x)

    def _latents(self) -> list[RoutingLatents] | None:
        """Return the latents of all blocks, made at once, if they are those of FLARE++."""
        mixers = [block.att for block in self.applications()]
        if not all(isinstance(mixer, SynthesizedRouting) for mixer in mixers):
            return None
        parameters = [mixer.latent_parameters() for mixer in mixers]
        return prepare_together(parameters, sigmoid_gate=mixers[0].sigmoid_gate)


def feed_forward(
    config: MixerStackConfig, *, residual: bool = False, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
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
