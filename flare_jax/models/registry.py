"""All models by name, and the one function that builds them from checked options."""

import inspect
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flare_jax.checks import check_choice, check_dtype, check_sizes
from flare_jax.models.flare import FLARE
from flare_jax.models.flare_ablations import FLAREAblations
from flare_jax.models.flare_experimental import FLAREExperimental
from flare_jax.models.flarepp import FLAREPP, FLAREPPConfig, FLAREWithSynthesis, FLAREWithSynthesisConfig
from flare_jax.models.gnot import GNOT
from flare_jax.models.lamo import LaMO
from flare_jax.models.linear import LinearTransformer
from flare_jax.models.linformer import Linformer
from flare_jax.models.lno import LNO
from flare_jax.models.loopy import Loopy
from flare_jax.models.luna import Luna, LunaConfig
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
from flare_jax.models.perceiverio import PerceiverIO
from flare_jax.models.set_transformer import SetTransformer, SetTransformerConfig
from flare_jax.models.transformer import Transformer
from flare_jax.models.transolver import Transolver
from flare_jax.models.transolver_plus_plus import TransolverPlusPlus
from flare_jax.models.ts1_uncond import TS1Uncond
from flare_jax.models.ts3_uncond import TS3Uncond
from flare_jax.models.unloopy import Unloopy
from flare_jax.models.upt import UPT
from flare_jax.options import Config
from flare_jax.signatures import check_options, config_parameters, keyword_options


@dataclass(frozen=True)
class ModelEntry:
    """A model class, what it is in one line, and its paper.

    Options are the fields of `config`, or without one the keyword-only constructor arguments.
    """

    constructor: type[nnx.Module]
    summary: str
    paper: str
    config: type[Config] | None = None

    def options(self) -> dict[str, inspect.Parameter]:
        """Return the options by name; compute dtype and random streams are arguments of `build_model` instead."""
        if self.config is not None:
            return config_parameters(self.config)
        return keyword_options(self.constructor, excluded=("dtype", "rngs"))


MODELS: Mapping[str, ModelEntry] = types.MappingProxyType(
    {
        "flare": ModelEntry(FLARE, "gather to and scatter from learned latents, per head", "arXiv 2508.12594"),
        "flare_experimental": ModelEntry(FLAREExperimental, "FLARE under a second name", "arXiv 2508.12594"),
        "flare_ablations": ModelEntry(
            FLAREAblations, "FLARE with shared latents or self-attention among the latents", "arXiv 2508.12594"
        ),
        "loopy": ModelEntry(Loopy, "FLARE blocks applied several times with the same weights", "arXiv 2508.12594"),
        "unloopy": ModelEntry(
            Unloopy, "FLARE with feed-forward part or attention shared by the blocks, and gates", "arXiv 2505.06708"
        ),
        "transformer": ModelEntry(Transformer, "softmax attention among all points", "arXiv 1706.03762"),
        "linformer": ModelEntry(Linformer, "softmax attention to k sums over the points", "arXiv 2006.04768"),
        "linear": ModelEntry(LinearTransformer, "linear attention with a feature map", "arXiv 2006.16236"),
        "transolver": ModelEntry(
            Transolver, "attention among soft slices of the points, any mesh or a structured grid", "arXiv 2402.02366"
        ),
        "transolver++": ModelEntry(
            TransolverPlusPlus, "Transolver with a temperature per point and Gumbel noise", "arXiv 2502.02414"
        ),
        "lamo": ModelEntry(LaMO, "slices mixed by a state-space layer, Hydra or Mamba-2", "arXiv 2505.19105"),
        "lno": ModelEntry(LNO, "tokens to modes and back by one score matrix", "arXiv 2406.03923"),
        "gnot": ModelEntry(GNOT, "normalised linear attention, experts gated by position", "arXiv 2302.14376"),
        "perceiverio": ModelEntry(PerceiverIO, "cross-attention into and out of a latent array", "arXiv 2107.14795"),
        "upt": ModelEntry(UPT, "supernode pooling, latent transformer, perceiver decoder", "arXiv 2402.12364"),
        "ts1_uncond": ModelEntry(TS1Uncond, "slices with learned queries, a precursor of FLARE", "no paper"),
        "ts3_uncond": ModelEntry(
            TS3Uncond, "TS1 with scores mixed across heads and a transformer layer on the slices", "no paper"
        ),
        "flarepp": ModelEntry(FLAREPP, "FLARE with queries gathered from the input", "arXiv 2608.11519", FLAREPPConfig),
        "flare_pp": ModelEntry(
            FLAREWithSynthesis, "the same with FLARE's deep keys and values", "no paper", FLAREWithSynthesisConfig
        ),
        "backbone_mha": ModelEntry(
            MixerBackbone, "FLARE++'s backbone with softmax attention", "arXiv 2608.11519", MhaBackboneConfig
        ),
        "backbone_flare": ModelEntry(
            MixerBackbone, "FLARE++'s backbone with FLARE's mixer", "arXiv 2608.11519", FlareBackboneConfig
        ),
        "backbone_simplifiedflarepp": ModelEntry(
            MixerBackbone, "FLARE++ without gate and fixed queries", "arXiv 2608.11519", SimplifiedFlareppBackboneConfig
        ),
        "backbone_flarepp": ModelEntry(
            MixerBackbone, "FLARE++ in its backbone", "arXiv 2608.11519", FlareppBackboneConfig
        ),
        "backbone_flarepp_ablations": ModelEntry(
            MixerBackbone, "FLARE++ with all its switches", "arXiv 2608.11519", FlareppAblationsBackboneConfig
        ),
        "backbone_transolver": ModelEntry(
            MixerBackbone, "FLARE++'s backbone with Transolver's mixer", "arXiv 2608.11519", TransolverBackboneConfig
        ),
        "backbone_transolverpp": ModelEntry(
            NoisyMixerBackbone,
            "FLARE++'s backbone with the mixer of Transolver++",
            "arXiv 2608.11519",
            TransolverPlusPlusBackboneConfig,
        ),
        "backbone_transolver3": ModelEntry(
            MixerBackbone, "FLARE++'s backbone with Transolver-3's mixer", "arXiv 2608.11519", Transolver3BackboneConfig
        ),
        "luna": ModelEntry(
            Luna, "packed latents accompany the points through all blocks", "arXiv 2106.01540", LunaConfig
        ),
        "set_transformer": ModelEntry(
            SetTransformer, "inducing points read the points, and are read", "arXiv 1810.00825", SetTransformerConfig
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
    """Build the model `model_type` that maps [B, N, in_dim] to [B, N, out_dim]; `options` go to its constructor.

    Parameters are float32, `dtype` ('float32' or 'bfloat16') is the compute dtype. Raises ValueError, in one sentence
    with the value and the remedy, for an unknown model type, an unknown or missing option, or a value of the wrong
    type or range.
    """
    check_choice("model_type", model_type, MODELS)
    check_sizes(in_dim=in_dim, out_dim=out_dim)
    entry = MODELS[model_type]
    if entry.config is not None:
        config = entry.config.from_mapping(options, owner=f"model type {model_type!r}")
        return entry.constructor(in_dim, out_dim, config, dtype=check_dtype(dtype), rngs=rngs)
    checked = check_options(f"model type {model_type!r}", [entry.constructor], entry.options(), options)
    return entry.constructor(in_dim, out_dim, **checked, dtype=check_dtype(dtype), rngs=rngs)
