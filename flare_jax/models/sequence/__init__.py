"""Sequence models: any token-mixing block between embeddings and a classifier."""

from flare_jax.models.sequence.backends import BACKENDS, Backend, block_config, make_blocks
from flare_jax.models.sequence.registry import SEQUENCE_MODELS, build_sequence_model
from flare_jax.models.sequence.tasks import TASKS, TaskKind
from flare_jax.models.sequence.trm import Recursion, RecursionState, TinyRecursiveModel, TRMConfig
from flare_jax.models.sequence.wrapper import SequenceConfig, SequenceModel

__all__ = [
    "BACKENDS",
    "SEQUENCE_MODELS",
    "TASKS",
    "Backend",
    "Recursion",
    "RecursionState",
    "SequenceConfig",
    "SequenceModel",
    "TRMConfig",
    "TaskKind",
    "TinyRecursiveModel",
    "block_config",
    "build_sequence_model",
    "make_blocks",
]
