"""Whole models, one per file, and the registry that builds them by name."""

from flare_jax.models.flare import FLARE
from flare_jax.models.flare_ablations import FLAREAblations
from flare_jax.models.flare_experimental import FLAREExperimental
from flare_jax.models.registry import MODELS, ModelEntry, build_model

__all__ = ["FLARE", "MODELS", "FLAREAblations", "FLAREExperimental", "ModelEntry", "build_model"]
