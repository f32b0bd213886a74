"""One network around eight token mixers, in which FLARE++ is compared with its rivals (arXiv 2608.11519)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_points, check_uniforms
from flare_jax.layers.dropout import Key
from flare_jax.layers.norms import FLAREPP_RMS_NORM_EPSILON
from flare_jax.mixers.adaptive_slice_attention import EvaluationNoiseConfig, evaluation_draws
from flare_jax.mixers.backbone_mixers import FixedRoutingConfig, MhaConfig, make_mixer
from flare_jax.mixers.flarepp import FlareppAblationsConfig, FlareppConfig, SimplifiedFlareppConfig
from flare_jax.models.mixer_stack import MixerBlock, MixerStack, MixerStackConfig, feed_forward
from flare_jax.option_groups import LatentConfig


@dataclass(frozen=True, kw_only=True)
class BackboneConfig(MixerStackConfig):
    """Options of the backbone; `kind` names its mixer."""

    kind: ClassVar[str]


@dataclass(frozen=True, kw_only=True)
class MhaBackboneConfig(BackboneConfig, MhaConfig):
    """Options of the backbone with softmax attention."""

    kind: ClassVar[str] = "mha"


@dataclass(frozen=True, kw_only=True)
class FlareBackboneConfig(BackboneConfig, FixedRoutingConfig):
    """Options of the backbone with FLARE's mixer."""

    kind: ClassVar[str] = "flare"


@dataclass(frozen=True, kw_only=True)
class SimplifiedFlareppBackboneConfig(BackboneConfig, SimplifiedFlareppConfig):
    """Options of the backbone with the mixer of FLARE++'s first version."""

    kind: ClassVar[str] = "simplifiedflarepp"


@dataclass(frozen=True, kw_only=True)
class FlareppBackboneConfig(BackboneConfig, FlareppConfig):
    """Options of the backbone with FLARE++."""

    kind: ClassVar[str] = "flarepp"


@dataclass(frozen=True, kw_only=True)
class FlareppAblationsBackboneConfig(BackboneConfig, FlareppAblationsConfig):
    """Options of the backbone with FLARE++ and all its switches."""

    kind: ClassVar[str] = "flarepp_ablations"


@dataclass(frozen=True, kw_only=True)
class TransolverBackboneConfig(BackboneConfig, LatentConfig):
    """Options of the backbone with Transolver's mixer; latents are its slices."""

    kind: ClassVar[str] = "transolver"


@dataclass(frozen=True, kw_only=True)
class TransolverPlusPlusBackboneConfig(BackboneConfig, LatentConfig, EvaluationNoiseConfig):
    """Options of the backbone with the mixer of Transolver++; latents are its slices."""

    kind: ClassVar[str] = "transolverpp"


@dataclass(frozen=True, kw_only=True)
class Transolver3BackboneConfig(BackboneConfig, LatentConfig):
    """Options of the backbone with the mixer of Transolver-3; latents are its slices."""

    kind: ClassVar[str] = "transolver3"


class MixerBackbone(MixerStack):
    """Pre-norm blocks around the mixer of `config`; widths, feed-forward parts and maps are the same for all mixers."""

    def __init__(
        self, in_dim: int, out_dim: int, config: BackboneConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ):
        def block() -> MixerBlock:
            return MixerBlock(
                config.channel_dim,
                att=make_mixer(config.kind, config, dtype=dtype, rngs=rngs),
                mlp=feed_forward(config, dtype=dtype, rngs=rngs),
                rmsnorm=config.rmsnorm,
                rms_epsilon=FLAREPP_RMS_NORM_EPSILON,
                dtype=dtype,
            )

        blocks = [block() for _ in range(config.num_blocks)]
        super().__init__(in_dim, out_dim, config, blocks=blocks, dtype=dtype, rngs=rngs)


class NoisyMixerBackbone(MixerBackbone):
    """The backbone with a mixer that adds Gumbel noise."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        config: TransolverPlusPlusBackboneConfig,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.num_heads, self.num_latents = config.heads, config.num_latents
        super().__init__(in_dim, out_dim, config, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "B N C_in"],
        mask: Bool[Array, "B N"] | None = None,
        *,
        key: Key | None = None,
        uniforms: Sequence[Float[Array, "B H N M"]] | None = None,
        return_statistics: bool = False,
    ) -> Float[Array, "B N C_out"] | tuple[Float[Array, "B N C_out"], dict[str, object]]:
        """Return the prediction as `MixerStack` does, with noise from `key`, without one as in `TransolverPlusPlus`.

        `uniforms`, one array of [0, 1) per block, are made into the noise instead. Raises ValueError for `uniforms` of
        another number or shape.
        """
        check_points(x, mask, self.in_dim)
        check_uniforms(uniforms, x.shape, num_blocks=len(self.blocks), heads=self.num_heads, slices=self.num_latents)
        if uniforms is None and key is None and self.config.eval_noise:
            uniforms = evaluation_draws(x.shape, blocks=len(self.blocks), heads=self.num_heads, slices=self.num_latents)
        return self.apply(x, mask, key, uniforms, return_statistics)
