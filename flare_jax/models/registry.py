"""All models by name, and the one function that builds them from checked options."""

import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flare_jax.checks import check_choice, check_dtype, check_sizes
from flare_jax.models.flare import FLARE, FLAREConfig, TiedFLAREConfig
from flare_jax.models.flarepp import FLAREPP, FLAREPPConfig, FLAREWithSynthesis, FLAREWithSynthesisConfig
from flare_jax.models.gnot import GNOT, GNOTConfig
from flare_jax.models.lamo import LaMO, LaMOConfig
from flare_jax.models.lno import LNO, LNOConfig
from flare_jax.models.luna import Luna, LunaConfig
from flare_jax.models.mesh_graph_net import MeshGraphNet, MeshGraphNetConfig
from flare_jax.models.mixer_backbone import (
    FlareBackboneConfig,
    FlareppAblationsBackboneConfig,
    FlareppBackboneConfig,
    MhaBackboneConfig,
    MixerBackbone,
    NoisyMixerBackbone,
    SimplifiedFlareppBackboneConfig,
    Transolver3BackboneConfig,
    TransolverBackboneConfig,
    TransolverPlusPlusBackboneConfig,
)
from flare_jax.models.perceiverio import PerceiverIO, PerceiverIOConfig
from flare_jax.models.set_transformer import SetTransformer, SetTransformerConfig
from flare_jax.models.transformer import LinearModelConfig, LinformerModelConfig, Transformer, TransformerConfig
from flare_jax.models.transolver import Transolver, TransolverConfig
from flare_jax.models.transolver_plus_plus import TransolverPlusPlus, TransolverPlusPlusConfig
from flare_jax.models.ts1_uncond import TS1Config, TS1Uncond
from flare_jax.models.ts3_uncond import TS3Config, TS3Uncond
from flare_jax.models.unloopy import Unloopy, UnloopyConfig
from flare_jax.models.upt import UPT, UPTConfig
from flare_jax.options import Config, Option, options_of


@dataclass(frozen=True)
class ModelEntry:
    """A model class, its options, what it is in one line, and its paper.

    Models are built as `constructor(in_dim, out_dim, config, dtype=..., rngs=...)`.
    """

    constructor: type[nnx.Module]
    config: type[Config]
    summary: str
    paper: str

    def options(self) -> Mapping[str, Option]:
        """Return the options by name; compute dtype and random streams are arguments of `build_model` instead."""
        return options_of(self.config)


MODELS: Mapping[str, ModelEntry] = types.MappingProxyType(
    {
        "flare": ModelEntry(
            FLARE, FLAREConfig, "gather to and scatter from learned latents, per head", "arXiv 2508.12594"
        ),
        "flare_experimental": ModelEntry(FLARE, FLAREConfig, "FLARE under a second name", "arXiv 2508.12594"),
        "flare_ablations": ModelEntry(
            FLARE,
            TiedFLAREConfig,
            "FLARE with shared latents or self-attention among the latents",
            "arXiv 2508.12594",
        ),
        "loopy": ModelEntry(
            FLARE, TiedFLAREConfig, "FLARE blocks applied several times with the same weights", "arXiv 2508.12594"
        ),
        "unloopy": ModelEntry(
            Unloopy,
            UnloopyConfig,
            "FLARE with feed-forward part or attention shared by the blocks, and gates",
            "arXiv 2505.06708",
        ),
        "transformer": ModelEntry(
            Transformer, TransformerConfig, "softmax attention among all points", "arXiv 1706.03762"
        ),
        "linformer": ModelEntry(
            Transformer, LinformerModelConfig, "softmax attention to k sums over the points", "arXiv 2006.04768"
        ),
        "linear": ModelEntry(Transformer, LinearModelConfig, "linear attention with a feature map", "arXiv 2006.16236"),
        "transolver": ModelEntry(
            Transolver,
            TransolverConfig,
            "attention among soft slices of the points, any mesh or a structured grid",
            "arXiv 2402.02366",
        ),
        "transolver++": ModelEntry(
            TransolverPlusPlus,
            TransolverPlusPlusConfig,
            "Transolver with a temperature per point and Gumbel noise",
            "arXiv 2502.02414",
        ),
        "lamo": ModelEntry(
            LaMO, LaMOConfig, "slices mixed by a state-space layer, Hydra or Mamba-2", "arXiv 2505.19105"
        ),
        "lno": ModelEntry(LNO, LNOConfig, "tokens to modes and back by one score matrix", "arXiv 2406.03923"),
        "gnot": ModelEntry(
            GNOT, GNOTConfig, "normalised linear attention, experts gated by position", "arXiv 2302.14376"
        ),
        "perceiverio": ModelEntry(
            PerceiverIO, PerceiverIOConfig, "cross-attention into and out of a latent array", "arXiv 2107.14795"
        ),
        "upt": ModelEntry(
            UPT, UPTConfig, "supernode pooling, latent transformer, perceiver decoder", "arXiv 2402.12364"
        ),
        "ts1_uncond": ModelEntry(TS1Uncond, TS1Config, "slices with learned queries, a precursor of FLARE", "no paper"),
        "ts3_uncond": ModelEntry(
            TS3Uncond, TS3Config, "TS1 with scores mixed across heads and a transformer layer on the slices", "no paper"
        ),
        "flarepp": ModelEntry(FLAREPP, FLAREPPConfig, "FLARE with queries gathered from the input", "arXiv 2608.11519"),
        "flare_pp": ModelEntry(
            FLAREWithSynthesis, FLAREWithSynthesisConfig, "the same with FLARE's deep keys and values", "no paper"
        ),
        "backbone_mha": ModelEntry(
            MixerBackbone, MhaBackboneConfig, "FLARE++'s backbone with softmax attention", "arXiv 2608.11519"
        ),
        "backbone_flare": ModelEntry(
            MixerBackbone, FlareBackboneConfig, "FLARE++'s backbone with FLARE's mixer", "arXiv 2608.11519"
        ),
        "backbone_simplifiedflarepp": ModelEntry(
            MixerBackbone, SimplifiedFlareppBackboneConfig, "FLARE++ without gate and fixed queries", "arXiv 2608.11519"
        ),
        "backbone_flarepp": ModelEntry(
            MixerBackbone, FlareppBackboneConfig, "FLARE++ in its backbone", "arXiv 2608.11519"
        ),
        "backbone_flarepp_ablations": ModelEntry(
            MixerBackbone, FlareppAblationsBackboneConfig, "FLARE++ with all its switches", "arXiv 2608.11519"
        ),
        "backbone_transolver": ModelEntry(
            MixerBackbone, TransolverBackboneConfig, "FLARE++'s backbone with Transolver's mixer", "arXiv 2608.11519"
        ),
        "backbone_transolverpp": ModelEntry(
            NoisyMixerBackbone,
            TransolverPlusPlusBackboneConfig,
            "FLARE++'s backbone with the mixer of Transolver++",
            "arXiv 2608.11519",
        ),
        "backbone_transolver3": ModelEntry(
            MixerBackbone, Transolver3BackboneConfig, "FLARE++'s backbone with Transolver-3's mixer", "arXiv 2608.11519"
        ),
        "luna": ModelEntry(
            Luna, LunaConfig, "packed latents accompany the points through all blocks", "arXiv 2106.01540"
        ),
        "set_transformer": ModelEntry(
            SetTransformer, SetTransformerConfig, "inducing points read the points, and are read", "arXiv 1810.00825"
        ),
        "mesh_graph_net": ModelEntry(
            MeshGraphNet, MeshGraphNetConfig, "messages along the edges of a mesh", "arXiv 2010.03409"
        ),
    }
)


def build_model(
    model_type: str,
    in_dim: int,
    out_dim: int,
    options: Mapping[str, Any],
    *,
    rngs: nnx.Rngs,
    dtype: DTypeLike = jnp.float32,
) -> nnx.Module:
    """Build the model `model_type` that maps [B, N, in_dim] to [B, N, out_dim]; `options` make its configuration.

    Parameters are float32, `dtype` ('float32' or 'bfloat16') is the compute dtype. Raises ValueError, in one sentence
    with the value and the remedy, for an unknown model type, an unknown or missing option, or a value of the wrong
    type or range.
    """
    check_choice("model_type", model_type, MODELS)
    check_sizes(in_dim=in_dim, out_dim=out_dim)
    entry = MODELS[model_type]
    config = entry.config.from_mapping(options, owner=f"model type {model_type!r}")
    return entry.constructor(in_dim, out_dim, config, dtype=check_dtype(dtype), rngs=rngs)
