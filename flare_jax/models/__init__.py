"""Whole models, one per file, and the registry that builds them by name."""

from flare_jax.models.flare import FLARE
from flare_jax.models.flare_ablations import FLAREAblations
from flare_jax.models.flare_experimental import FLAREExperimental
from flare_jax.models.gnot import GNOT
from flare_jax.models.lamo import LaMO
from flare_jax.models.linear import LinearTransformer
from flare_jax.models.linformer import Linformer
from flare_jax.models.lno import LNO
from flare_jax.models.loopy import Loopy
from flare_jax.models.perceiverio import PerceiverIO
from flare_jax.models.registry import MODELS, ModelEntry, build_model
from flare_jax.models.transformer import Transformer
from flare_jax.models.transolver import Transolver
from flare_jax.models.transolver_plus_plus import TransolverPlusPlus
from flare_jax.models.ts1_uncond import TS1Uncond
from flare_jax.models.ts3_uncond import TS3Uncond
from flare_jax.models.unloopy import Unloopy
from flare_jax.models.upt import UPT

__all__ = [
    "FLARE",
    "GNOT",
    "LNO",
    "MODELS",
    "UPT",
    "FLAREAblations",
    "FLAREExperimental",
    "LaMO",
    "LinearTransformer",
    "Linformer",
    "Loopy",
    "ModelEntry",
    "PerceiverIO",
    "TS1Uncond",
    "TS3Uncond",
    "Transformer",
    "Transolver",
    "TransolverPlusPlus",
    "Unloopy",
    "build_model",
]
