"""FLARE (Fast Low-rank Attention Routing Engine) in JAX and Flax NNX: mixers, models, conversion and analysis."""

from flare_jax import analysis, convert, layers, mixers, models, params

__all__ = ["analysis", "convert", "layers", "mixers", "models", "params"]
__version__ = "0.1.0"
