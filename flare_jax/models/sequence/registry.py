"""The one function that builds sequence models from checked options."""

import types
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flare_jax.checks import check_choice, check_dtype
from flare_jax.models.sequence.backends import BACKENDS
from flare_jax.models.sequence.tasks import TaskKind
from flare_jax.models.sequence.trm import TinyRecursiveModel
from flare_jax.models.sequence.wrapper import SequenceModel
from flare_jax.signatures import check_options, keyword_options

# The models that put the blocks of a backend to use.
SEQUENCE_MODELS: Mapping[str, type[nnx.Module]] = types.MappingProxyType(
    {"sequence": SequenceModel, "trm": TinyRecursiveModel}
)

_ARGUMENTS = ("backend", "backend_options", "dtype", "rngs")


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
    check_choice("backend", backend, BACKENDS)
    constructor, entry = SEQUENCE_MODELS[model_type], BACKENDS[backend]
    own = keyword_options(constructor, excluded=_ARGUMENTS)
    # A backend option that the model sets itself, such as `seq_len`, need not be given.
    of_backend = {name: p for name, p in entry.options().items() if name != "seq_len" or name in options}
    checked = check_options(
        f"a {model_type} model of backend {backend!r}", [constructor, entry.constructor], {**of_backend, **own}, options
    )
    return constructor(
        task,
        vocab_size,
        num_labels,
        **{name: value for name, value in checked.items() if name in own},
        backend=backend,
        backend_options={name: value for name, value in checked.items() if name not in own},
        dtype=check_dtype(dtype),
        rngs=rngs,
    )
