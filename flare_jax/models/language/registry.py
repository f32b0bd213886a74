"""Language models by name, their sizes, and the one function that builds them from checked options."""

import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flare_jax.checks import check_choice, check_dtype
from flare_jax.mixers.causal_attention import CausalAttention, CausalAttentionConfig
from flare_jax.mixers.causal_flare_attention import CausalFlareAttention, CausalFlareConfig
from flare_jax.mixers.causal_streams import DecoderConfig
from flare_jax.mixers.gated_linear_mixer import GatedLinearAttention, GatedLinearConfig
from flare_jax.models.language.decoder import CausalDecoder
from flare_jax.options import Option, options_of


@dataclass(frozen=True)
class LanguageEntry:
    """A mixer, the options of its decoder, what it is in one line, and its paper."""

    mixer: Callable[..., nnx.Module]
    config: type[DecoderConfig]
    summary: str
    paper: str

    def options(self) -> Mapping[str, Option]:
        """Return the options by name."""
        return options_of(self.config)


LANGUAGE_MODELS: Mapping[str, LanguageEntry] = types.MappingProxyType(
    {
        "causal_flare": LanguageEntry(
            CausalFlareAttention, CausalFlareConfig, "latents that gather all earlier tokens", "arXiv 2508.12594"
        ),
        "gla": LanguageEntry(GatedLinearAttention, GatedLinearConfig, "gated linear attention", "arXiv 2312.06635"),
        "causal_attention": LanguageEntry(
            CausalAttention, CausalAttentionConfig, "softmax attention with rotary positions", "arXiv 1706.03762"
        ),
    }
)

# Width, blocks, heads, latents and MLP width; the number in a name is that of the parameters, about.
SIZES: Mapping[str, tuple[int, int, int, int, int]] = types.MappingProxyType(
    {
        "tiny": (128, 4, 4, 16, 512),
        "5M": (256, 6, 4, 32, 768),
        "15M": (384, 8, 6, 32, 1024),
        "15M_bpe": (320, 8, 5, 32, 1024),
        "50M": (512, 10, 8, 32, 1536),
        "124M": (768, 12, 12, 32, 2048),
        "340M": (1024, 24, 16, 16, 2816),
        # Two blocks, for associative recall; the number is the width.
        "recall32": (32, 2, 2, 16, 128),
        "recall64": (64, 2, 2, 64, 256),
        "recall128": (128, 2, 2, 64, 512),
        "recall256": (256, 2, 4, 64, 768),
    }
)
_GLA_HEADS = 4


def size_options(model_type: str, size: str) -> dict[str, Any]:
    """Return the options of a model that make it one of `SIZES`; raises ValueError for an unknown name."""
    check_choice("model_type", model_type, LANGUAGE_MODELS)
    check_choice("size", size, SIZES)
    channels, blocks, heads, latents, width = SIZES[size]
    options = {"channel_dim": channels, "num_blocks": blocks, "num_heads": heads, "mlp_width": width}
    if model_type == "gla":
        options["num_heads"] = _GLA_HEADS
    return options | ({"num_latents": latents} if model_type == "causal_flare" else {})


def build_language_model(
    model_type: str,
    vocab_size: int,
    options: Mapping[str, Any],
    *,
    context: int = 1024,
    rngs: nnx.Rngs,
    dtype: DTypeLike = jnp.float32,
) -> CausalDecoder:
    """Build the decoder `model_type` for a vocabulary; `context` is the number of tokens that it is trained on.

    Parameters are float32, `dtype` ('float32' or 'bfloat16') is the compute dtype. Raises ValueError, in one sentence
    with the value and the remedy, for an unknown model type, an unknown or missing option, or a value of the wrong type
    or range.
    """
    check_choice("model_type", model_type, LANGUAGE_MODELS)
    entry = LANGUAGE_MODELS[model_type]
    config = entry.config.from_mapping(options, owner=f"model type {model_type!r}")
    return CausalDecoder(
        vocab_size, config, make_mixer=entry.mixer, context=context, dtype=check_dtype(dtype), rngs=rngs
    )
