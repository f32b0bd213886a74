"""FLARE (Fast Low-rank Attention Routing Engine) in JAX and Flax NNX: mixers, models, conversion and analysis.

`flare_jax.load(FOLDER)` opens a trained run as a function of points and inputs (`flare_jax.surrogate`), and
`flare_jax.load_ensemble(FOLDER)` one of several seeds with the spread of their predictions.
"""

# A package of flare_jax (see flare_jax_programs.py).

import flare_jax_programs

flare_jax_programs.check_packages(("kernels", "runtime"))

from runtime import signals  # noqa: E402

signals.install_in_programs(__name__)

from flare_jax import analysis, convert, layers, mixers, models, params  # noqa: E402
from flare_jax.ensemble import Ensemble, load_ensemble  # noqa: E402
from flare_jax.surrogate import Surrogate, load  # noqa: E402

__all__ = [
    "Ensemble",
    "Surrogate",
    "analysis",
    "convert",
    "layers",
    "load",
    "load_ensemble",
    "mixers",
    "models",
    "params",
]
__version__ = "0.1.0"
