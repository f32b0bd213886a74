"""How the constructor arguments of the original sequence models map to the options of ours.

The arguments are those of `ModelWrapper`, the arguments of its backend included, as recorded results ("goldens") and
checkpoints of the original have them.
"""

import math
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flare_jax.checks import check_choice
from flare_jax.models.sequence import BACKENDS, SEQUENCE_MODELS
from flare_jax.models.sequence.tasks import TaskKind, find_task
from flare_jax.options import without_unused

# Our name of each wrapper class of the original.
WRAPPERS: Mapping[str, str] = types.MappingProxyType({"ModelWrapper": "sequence", "TRMWrapper": "trm"})

_POSITIONAL = ("task", "vocab_size", "num_labels")
# What the original computes whatever its arguments: padding is pooled and has a random embedding, and rotary embeddings
# are no rotation.
_HISTORICAL = {"masked_pool": False, "zero_pad_embedding": False, "rope_mode": "reference"}
_DEFAULTS = {"num_heads": 4}
_RENAMED = {"trm_N_steps": "num_steps", "trm_n": "num_latent_updates", "trm_T": "num_recursions"}


def _unchanged(arguments: dict[str, Any]) -> dict[str, Any]:
    return arguments


@dataclass(frozen=True)
class SequenceOriginal:
    """What differs for one backend.

    `ignored` lists arguments without effect there, `fixed` sets options of ours that reproduce what the original does.
    `adapt` rewrites the arguments. `activations` are the values of `act` with a meaning of their own, where every other
    string stands for 'silu'; None if the original refuses the others.
    """

    ignored: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    adapt: Callable[[dict[str, Any]], dict[str, Any]] = _unchanged
    activations: tuple[str | None, ...] | None = (None, "gelu")


def _flare_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Turn the hidden widths of the original into width ratios."""
    width = arguments.get("channel_dim", 128)
    for theirs, ours in (("kv_proj_hidden_dim", "kv_proj_mlp_ratio"), ("ffn_hidden_dim", "ffn_mlp_ratio")):
        if theirs in arguments:
            arguments[ours] = _exact_ratio(arguments.pop(theirs), width)
    return arguments


def _flarepp_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Turn the hidden width into a ratio; the original of these blocks pools real tokens and starts maps near 0."""
    masked = {"masked_pool": True} if arguments.get("pool", "mean") in ("mean", "max") else {}
    return _flare_arguments({"ffn_hidden_dim": 1, "identity_init": False, **masked, **arguments})


def _exact_ratio(hidden_dim: int, width: int) -> float:
    """Return a ratio r with int(width · r) = hidden_dim; the quotient itself can round below it."""
    ratio = hidden_dim / width
    return ratio if int(width * ratio) == hidden_dim else math.nextafter(ratio, math.inf)


def _third_order_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Ask for the epsilon of one method and the ignored mask and dropout of the other."""
    if arguments.get("third_order_method") == "strassen":
        return {**arguments, "reference_epsilon": True}
    arguments.pop("attn_drop", None)
    return {**arguments, "ignore_mask": True}


# The classes with polynomial states take these arguments; they choose between equal computations or do nothing.
_STATE = SequenceOriginal(ignored=("kv_proj_mlp_ratio", "use_triton", "attn_drop"), activations=None)

SEQUENCE_ORIGINALS: Mapping[str, SequenceOriginal] = types.MappingProxyType(
    {
        "transformer": SequenceOriginal(),
        "linformer": SequenceOriginal(fixed={"masked": False}),
        "flare": SequenceOriginal(adapt=_flare_arguments, activations=None),
        "flarepp": SequenceOriginal(adapt=_flarepp_arguments, activations=None),
        "linear": SequenceOriginal(ignored=("attn_drop",)),
        # The class takes these arguments of its siblings and does nothing with them.
        "linear_no": SequenceOriginal(
            ignored=(
                "num_layers_kv_proj",
                "kv_proj_mlp_ratio",
                "kernel",
                "norm_q",
                "norm_k",
                "qk_dim_ratio",
                "num_states",
                "use_triton",
                "mlp_ratio",
                "attn_drop",
            ),
            fixed={"masked": False},
            activations=None,
        ),
        "performer": SequenceOriginal(fixed={"estimator": "reference"}),
        "ema": SequenceOriginal(fixed={"ema_impl": "reference_cumsum", "masked_ema": False}),
        "multilinear": _STATE,
        "strassen": _STATE,
        "triple": _STATE,
        "triple1": SequenceOriginal(
            ignored=("qk_dim_ratio", "use_triton", "attn_drop"), activations=(None, "gelu", "swiglu")
        ),
        "quad": _STATE,
        "third_order": SequenceOriginal(adapt=_third_order_arguments),
    }
)


def translate_sequence_arguments(
    wrapper: str, backend: str, arguments: Mapping[str, Any]
) -> tuple[str, TaskKind, int, int, dict[str, Any]]:
    """Return (model_type, task, vocab_size, num_labels, options) for the constructor arguments of an original model.

    Raises ValueError for an unknown wrapper class, backend or task, or if one of the first three arguments is missing.
    """
    check_choice("wrapper", wrapper, WRAPPERS)
    check_choice("backend", backend, SEQUENCE_ORIGINALS)
    original = SEQUENCE_ORIGINALS[backend]
    adapted = original.adapt(dict(arguments))
    missing = [name for name in _POSITIONAL if name not in adapted]
    if missing:
        raise ValueError(
            f"the constructor arguments of the original lack {missing[0]!r}; add it to {', '.join(adapted)}"
        )
    task, vocab_size, num_labels = (adapted[name] for name in _POSITIONAL)
    kind = _find_kind(wrapper, task)
    dropped = {*_POSITIONAL, *original.ignored, "backend"}
    if kind.token_level:
        dropped.add("pool")
    options = {_RENAMED.get(name, name): value for name, value in adapted.items() if name not in dropped}
    if original.activations is not None and options.get("act") not in original.activations:
        options["act"] = "silu"
    model_type = WRAPPERS[wrapper]
    options = {**_DEFAULTS, **_HISTORICAL, **options, **original.fixed}
    # The original takes options that have no effect beside others; ours says so.
    for config in (SEQUENCE_MODELS[model_type].config, BACKENDS[backend].config):
        options = without_unused(config, options)
    return model_type, kind, vocab_size, num_labels, options


def _find_kind(wrapper: str, task: str) -> TaskKind:
    """Return the kind of a task; the recursive model has one document per sample and a plain classifier for all."""
    kind = find_task(task)
    return TaskKind(token_level=kind.token_level) if wrapper == "TRMWrapper" else kind
