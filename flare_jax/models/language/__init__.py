"""Language models: a decoder of causal mixers that trains on whole sequences and generates token by token."""

from flare_jax.models.language.decoder import CausalDecoder, DecoderState
from flare_jax.models.language.generation import Generator, Sampling, sample_tokens
from flare_jax.models.language.registry import LANGUAGE_MODELS, SIZES, build_language_model, size_options

__all__ = [
    "LANGUAGE_MODELS",
    "SIZES",
    "CausalDecoder",
    "DecoderState",
    "Generator",
    "Sampling",
    "build_language_model",
    "sample_tokens",
    "size_options",
]
