"""The model of a run: what the task decides of it, and its options from the configuration."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from data_pipeline.sequence.dataset import SequenceDataset
from data_pipeline.sequence.layout import SequenceTask
from data_pipeline.sequence.registry import find_task
from experiments.errors import UserError
from experiments.model_options import option_values
from experiments.training.initial import differing_names
from flare_jax import params as model_params
from flare_jax.models.sequence import TaskKind, build_sequence_model
from flare_jax.parameter_keys import ParameterKeys

RECURSIVE = "trm"
_NOMINAL_LENGTH = 16
# Options of data that give padding a token of its own, which is then masked.
_MASKING = ("mask_padding", "pad_blank")


@dataclass(frozen=True)
class TaskFacts:
    """What a model takes from its task; `num_logits` is 1 for two classes, `max_length` that of one document."""

    kind: TaskKind
    vocab_size: int
    num_logits: int
    max_length: int
    pad_id: int | None


def task_facts(dataset: SequenceDataset) -> TaskFacts:
    """Return the facts of a loaded task."""
    return TaskFacts(
        task_kind(find_task(dataset.name)), dataset.vocab_size, dataset.num_logits, dataset.max_length, dataset.pad_id
    )


def task_kind(task: SequenceTask) -> TaskKind:
    """Return what a model has to know of a task."""
    return TaskKind(task.token_level, task.documents, task.mlp_head)


def build(config: Any, facts: TaskFacts, seed: int) -> nnx.Module:
    """Return the model of a configuration for a task."""
    section = config.model
    options = option_values(section)
    return build_sequence_model(
        section.backend,
        facts.kind,
        facts.vocab_size,
        facts.num_logits,
        {**options, "max_length": facts.max_length, "pad_id": facts.pad_id},
        model_type=section.type,
        rngs=ParameterKeys(seed),
        dtype=config.train.dtype,
    )


def width_names(config: Any, facts: TaskFacts) -> set[str]:
    """Return the names of the parameters whose shapes depend on the numbers of tokens and labels of the task."""

    def shapes(facts: TaskFacts) -> model_params.Params:
        return model_params.split(nnx.eval_shape(lambda: build(config, facts, 0)))[1]

    wider = replace(facts, vocab_size=facts.vocab_size + 1, num_logits=facts.num_logits + 1)
    return differing_names(shapes(facts), shapes(wider))


def check_model(config: Any) -> None:
    """Trace the model on a short sequence, without arrays, so that bad options are reported before any data is read.

    Raises ValueError, among others where the task has padding to mask and the backend takes no mask.
    """
    task, masked = find_task(config.data.name), has_padding(config)
    kind = task_kind(task)
    facts = TaskFacts(kind, 4, 4, _NOMINAL_LENGTH, 0 if masked else None)
    ids = jnp.zeros((1, kind.documents * _NOMINAL_LENGTH), jnp.int32)

    def forward() -> jax.Array:
        graphdef, params = model_params.split(build(config, facts, 0))
        return model_params.apply_fn(graphdef)(params, ids, ids == 0 if masked else None, key=jax.random.key(0))

    jax.eval_shape(forward)


def has_padding(config: Any) -> bool:
    """Return whether samples have padding that is masked."""
    return find_task(config.data.name).masked or any(config.data.get(name) for name in _MASKING)


def check_mesh(config: Any) -> None:
    """Raise UserError for a mesh that splits sequences: only samples are split over devices."""
    if config.mesh.points != 1:
        raise UserError(
            f"mesh.points={config.mesh.points}, but sequence models are split over samples only; use mesh.data"
        )
