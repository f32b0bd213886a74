"""Sequence models: any token-mixing block between embeddings and a classifier."""

from flare_jax.models.sequence.backends import BACKENDS, Backend, make_blocks
from flare_jax.models.sequence.registry import SEQUENCE_MODELS, build_sequence_model
from flare_jax.models.sequence.tasks import TASKS, TaskKind
from flare_jax.models.sequence.trm import Recursion, RecursionState, TinyRecursiveModel
from flare_jax.models.sequence.wrapper import SequenceModel

__all__ = [
    "BACKENDS",
    "SEQUENCE_MODELS",
    "TASKS",
    "Backend",
    "Recursion",
    "RecursionState",
    "SequenceModel",
    "TaskKind",
    "TinyRecursiveModel",
    "build_sequence_model",
    "make_blocks",
]
