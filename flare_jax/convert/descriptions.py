"""What a converted folder says of its model: enough to build it without the original's configuration."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flare_jax import params as model_params
from flare_jax.convert.mappings import TORCH_MAPPINGS, is_unsaved
from flare_jax.models.registry import build_model
from flare_jax.models.sequence import TaskKind, build_sequence_model
from flare_jax.parameter_keys import ParameterKeys


@dataclass(frozen=True)
class ModelDescription:
    """A model of fields on points: the arguments of `flare_jax.models.build_model`."""

    model_type: str
    in_dim: int
    out_dim: int
    options: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The model's name for people."""
        return self.model_type

    def build(self, seed: int = 0) -> nnx.Module:
        """Return the model with new parameters; raises ValueError for options that it does not have."""
        return self._build(seed, jnp.float32)

    def abstract(self, dtype: DTypeLike = jnp.float32) -> nnx.Module:
        """Return the model with the shapes of its parameters in their place; it computes in `dtype`."""
        return nnx.eval_shape(lambda: self._build(0, dtype))

    def _build(self, seed: int, dtype: DTypeLike) -> nnx.Module:
        return build_model(
            self.model_type, self.in_dim, self.out_dim, self.options, rngs=ParameterKeys(seed), dtype=dtype
        )


@dataclass(frozen=True)
class SequenceDescription:
    """A model of token sequences: the arguments of `flare_jax.models.sequence.build_sequence_model`."""

    model_type: str
    backend: str
    task: TaskKind
    vocab_size: int
    num_labels: int
    options: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The model's name for people."""
        return f"{self.model_type} model of {self.backend} blocks"

    def build(self, seed: int = 0) -> nnx.Module:
        """Return the model with new parameters; raises ValueError for options that it does not have."""
        return build_sequence_model(
            self.backend,
            self.task,
            self.vocab_size,
            self.num_labels,
            self.options,
            model_type=self.model_type,
            rngs=ParameterKeys(seed),
        )


Description = ModelDescription | SequenceDescription


def read_description(stored: Mapping[str, Any]) -> Description:
    """Undo `dataclasses.asdict` on what JSON keeps of a description; raises KeyError or TypeError for anything else."""
    kind = SequenceDescription if "backend" in stored else ModelDescription
    for field in fields(kind):
        wanted = field.type if field.type in (int, str) else Mapping
        if not isinstance(stored[field.name], wanted) or isinstance(stored[field.name], bool):
            raise TypeError(f"{field.name} of its model is {stored[field.name]!r}")
    options = {name: tuple(v) if isinstance(v, list) else v for name, v in stored["options"].items()}
    task = {"task": TaskKind(**stored["task"])} if kind is SequenceDescription else {}
    return kind(**{**stored, **task, "options": options})


def abstract_parameters(model: Description) -> model_params.Params:
    """Return shapes and dtypes of the model's parameters by name, without computing any."""
    return model_params.split(nnx.eval_shape(model.build))[1]


def unsaved_names(model: Description) -> list[str]:
    """Return the parameters of ours that the original keeps out of its state_dict: random features."""
    mapping = TORCH_MAPPINGS[model.model_type]
    return [name for name in abstract_parameters(model) if is_unsaved(name, mapping)]


def draw_unsaved(model: Description, seed: int) -> model_params.Params:
    """Return new values of the parameters that the original does not save."""
    drawn = model_params.split(model.build(seed))[1]
    return {name: drawn[name] for name in unsaved_names(model)}
