"""Whole models, one family per file with the options of its members, and the registry that builds them by name."""

from flare_jax.models.flare import FLARE, FLAREConfig, TiedFLAREConfig
from flare_jax.models.gnot import GNOT, GNOTConfig
from flare_jax.models.lamo import LaMO, LaMOConfig
from flare_jax.models.lno import LNO, LNOConfig
from flare_jax.models.mesh_graph_net import MeshGraphNet, MeshGraphNetConfig
from flare_jax.models.perceiverio import PerceiverIO, PerceiverIOConfig
from flare_jax.models.registry import MODELS, ModelEntry, build_model
from flare_jax.models.transformer import LinearModelConfig, LinformerModelConfig, Transformer, TransformerConfig
from flare_jax.models.transolver import Transolver, TransolverConfig
from flare_jax.models.transolver_plus_plus import TransolverPlusPlus, TransolverPlusPlusConfig
from flare_jax.models.ts1_uncond import TS1Config, TS1Uncond
from flare_jax.models.ts3_uncond import TS3Config, TS3Uncond
from flare_jax.models.unloopy import Unloopy, UnloopyConfig
from flare_jax.models.upt import UPT, UPTConfig

__all__ = [
    "FLARE",
    "GNOT",
    "LNO",
    "MODELS",
    "UPT",
    "FLAREConfig",
    "GNOTConfig",
    "LNOConfig",
    "LaMO",
    "LaMOConfig",
    "LinearModelConfig",
    "LinformerModelConfig",
    "MeshGraphNet",
    "MeshGraphNetConfig",
    "ModelEntry",
    "PerceiverIO",
    "PerceiverIOConfig",
    "TS1Config",
    "TS1Uncond",
    "TS3Config",
    "TS3Uncond",
    "TiedFLAREConfig",
    "Transformer",
    "TransformerConfig",
    "Transolver",
    "TransolverConfig",
    "TransolverPlusPlus",
    "TransolverPlusPlusConfig",
    "UPTConfig",
    "Unloopy",
    "UnloopyConfig",
    "build_model",
]
