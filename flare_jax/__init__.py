"""FLARE (Fast Low-rank Attention Routing Engine) in JAX and Flax NNX: mixers, models, conversion and analysis.

`flare_jax.load(FOLDER)` opens a trained run as a function of points and inputs (`flare_jax.surrogate`).
"""

from flare_jax import analysis, convert, layers, mixers, models, params
from flare_jax.surrogate import Surrogate, load

__all__ = ["Surrogate", "analysis", "convert", "layers", "load", "mixers", "models", "params"]
__version__ = "0.1.0"
