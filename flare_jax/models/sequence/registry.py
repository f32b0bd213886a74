"""The one function that builds sequence models from checked options."""

import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flare_jax.checks import check_choice, check_dtype
from flare_jax.models.sequence.backends import BACKENDS, block_config
from flare_jax.models.sequence.tasks import TaskKind
from flare_jax.models.sequence.trm import TinyRecursiveModel, TRMConfig
from flare_jax.models.sequence.wrapper import SequenceConfig, SequenceModel
from flare_jax.options import Config, Option, check_names, options_of


@dataclass(frozen=True)
class SequenceEntry:
    """A model that puts the blocks of a backend to use, and its own options."""

    constructor: type[nnx.Module]
    config: type[Config]

    def options(self, backend: str) -> Mapping[str, Option]:
        """Return the options of the model and of its blocks; a length that the model gives its blocks may be left out.

        Raises ValueError for an unknown backend.
        """
        check_choice("backend", backend, BACKENDS)
        return {**BACKENDS[backend].options(), **options_of(self.config)}


SEQUENCE_MODELS: Mapping[str, SequenceEntry] = types.MappingProxyType(
    {
        "sequence": SequenceEntry(SequenceModel, SequenceConfig),
        "trm": SequenceEntry(TinyRecursiveModel, TRMConfig),
    }
)


def build_sequence_model(
    backend: str,
    task: str | TaskKind,
    vocab_size: int,
    num_labels: int,
    options: Mapping[str, Any],
    *,
    model_type: str = "sequence",
    rngs: nnx.Rngs,
    dtype: DTypeLike = jnp.float32,
) -> nnx.Module:
    """Build the sequence model `model_type` of blocks of `backend`; `options` are those of both.

    Parameters are float32, `dtype` ('float32' or 'bfloat16') is the compute dtype. Raises ValueError, in one sentence
    with the value and the remedy, for an unknown name, an unknown or missing option, or a value of the wrong type or
    range.
    """
    check_choice("model_type", model_type, SEQUENCE_MODELS)
    entry = SEQUENCE_MODELS[model_type]
    owner = f"a {model_type} model of backend {backend!r}"
    known = entry.options(backend)
    check_names(owner, {name: o for name, o in known.items() if name != "seq_len" or name in options}, options)
    checked = {name: known[name].check(value) for name, value in options.items()}
    own = options_of(entry.config)
    config = entry.config(**{name: value for name, value in checked.items() if name in own})
    # What both have, such as channel_dim, goes to both.
    shared = {name: getattr(config, name) for name in BACKENDS[backend].options() if name in own}
    rest = shared | {name: value for name, value in checked.items() if name not in own}
    return entry.constructor(
        task,
        vocab_size,
        num_labels,
        config,
        backend=backend,
        blocks=block_config(backend, rest, max_length=config.max_length),
        dtype=check_dtype(dtype),
        rngs=rngs,
    )
