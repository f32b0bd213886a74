"""The configuration beside a sequence checkpoint of the original: how the fields of its `python -m lra` build a model.

The fields give the constructor arguments by the routing of the original's factory, with `strassen`, `quad` and
`linear_no`, which it forgets, treated like their siblings. What the original takes from
the data set is read from the weights.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from flare_jax.convert.descriptions import SequenceDescription
from flare_jax.convert.sequence_originals import translate_sequence_arguments
from runtime.words import did_you_mean

# The original's command-line defaults of the fields that reach a model; a config.yaml may lack those added later.
_DEFAULTS: Mapping[str, Any] = {
    "num_blocks": 4,
    "channel_dim": 128,
    "num_heads": 8,
    "act": None,
    "rmsnorm": False,
    "pool": "mean",
    "pos_embed": "abs",
    "emb_drop": 0.0,
    "cls_drop": 0.0,
    "attn_drop": 0.0,
    "proj_drop": 0.0,
    "mlp_ratio": 4.0,
    "linformer_k": 256,
    "performer_nb_features": 256,
    "performer_redraw_interval": 0,
    "performer_normalize_inputs": True,
    "kernel": "identity",
    "qk_dim_ratio": 1.0,
    "norm_q": True,
    "norm_k": True,
    "use_triton": False,
    "num_states": 2,
    "attn_scale": "one",
    "num_latents": 128,
    "num_layers_kv_proj": 3,
    "kv_proj_mlp_ratio": 1.0,
    "num_layers_ffn": 3,
    "ffn_mlp_ratio": 1.0,
    "third_order_method": "third_order",
    "trm": False,
    "trm_N_steps": 16,
    "trm_n": 6,
    "trm_T": 3,
}
_SHARED = (
    "num_blocks", "channel_dim", "num_heads", "act", "rmsnorm", "pool", "pos_embed",
    "emb_drop", "cls_drop", "attn_drop", "proj_drop",
)  # fmt: skip
_RECURSION = ("trm_N_steps", "trm_n", "trm_T")
_STATE = (
    "num_layers_kv_proj", "kv_proj_mlp_ratio", "kernel", "norm_q", "norm_k", "qk_dim_ratio", "num_layers_ffn",
    "ffn_mlp_ratio",
)  # fmt: skip

# Longest sequence, that of one document, by the tasks that the original can load. A model
# with learned positions, or with linformer's projection, stores its own.
_LENGTHS: Mapping[str, int] = {
    "listops": 2048,
    "text": 4096,
    "retrieval": 4096,
    "image": 1024,
    "pathfinder32": 1024,
    "pathfinder128": 16384,
    "mta-toy": 302,
    "function_composition": 30,
    "binary_relation_composition": 64,
    "quotient_binary_relation_composition": 64,
    "match3": 35,
    "sudoku": 81,
}
# Tasks with a padding token: behind all others, or, taking the place of a blank cell, before them.
_PADDED_BEHIND = (
    "function_composition",
    "binary_relation_composition",
    "quotient_binary_relation_composition",
    "match3",
)
_PADDED_BEFORE = ("sudoku",)

_EMBEDDING, _POSITIONS, _PROJECTION = "token_emb.token_embed.weight", "pos_emb.pe.weight", "blocks.0.att.E_k"
# The last layer of the plain classifier, and of the one with a hidden layer.
_HEADS = ("cls_proj.2.weight", "cls_proj.2.2.weight")

State = Mapping[str, np.ndarray]
Fields = Mapping[str, Any]


def _plain(*names: str, **renamed: str) -> Callable[[Fields], dict[str, Any]]:
    """Return the rule for arguments that have the names of fields, and for those that have others."""
    return lambda fields: (
        {name: fields[name] for name in names} | {argument: fields[name] for argument, name in renamed.items()}
    )


def _flare(fields: Fields) -> dict[str, Any]:
    width = fields["channel_dim"]
    own = {name: fields[name] for name in ("num_latents", "attn_scale", "num_layers_kv_proj", "num_layers_ffn")}
    return own | {
        "kv_proj_hidden_dim": int(width * fields["kv_proj_mlp_ratio"]),
        "ffn_hidden_dim": int(width * fields["ffn_mlp_ratio"]),
    }


def _flarepp(fields: Fields) -> dict[str, Any]:
    own = {name: fields[name] for name in ("num_latents", "num_layers_ffn")}
    return own | {"ffn_hidden_dim": int(fields["channel_dim"] * fields["ffn_mlp_ratio"])}


_BACKENDS: Mapping[str, Callable[[Fields], dict[str, Any]]] = {
    "transformer": _plain("mlp_ratio"),
    "linformer": _plain("mlp_ratio", k="linformer_k"),
    "ema": _plain("mlp_ratio"),
    "flare": _flare,
    "flarepp": _flarepp,
    "linear": _plain("mlp_ratio", "kernel", "norm_q", "norm_k"),
    "multilinear": _plain(*_STATE, "num_states"),
    "strassen": _plain(*_STATE),
    "linear_no": _plain("num_layers_ffn", "ffn_mlp_ratio"),
    "triple": _plain(*_STATE, "use_triton"),
    "triple1": _plain("mlp_ratio"),
    "quad": _plain(*_STATE),
    "third_order": _plain("mlp_ratio", "third_order_method"),
    "performer": _plain(
        "mlp_ratio",
        nb_features="performer_nb_features",
        redraw_interval="performer_redraw_interval",
        normalize_inputs="performer_normalize_inputs",
    ),
}


def describe_fields(content: Fields, state_dict: State) -> SequenceDescription:
    """Return our model for the fields of a config file, of which `task` and `model_type` must be there.

    Raises ValueError for an unknown task or backend, and for weights that are not those of a sequence model.
    """
    fields = {**_DEFAULTS, **content}
    task, backend = fields["task"], fields["model_type"]
    for name, value, known in (("task", task, _LENGTHS), ("model_type", backend, _BACKENDS)):
        if value not in known:
            raise ValueError(
                f"{name} {value!r} of the config is not one that the original's `python -m lra` can run"
                f"{did_you_mean(value, known)}; known are {', '.join(known)}"
            )
    arguments = {name: fields[name] for name in _SHARED} | _BACKENDS[backend](fields) | _data_facts(task, state_dict)
    if backend == "linformer":
        arguments["seq_len"] = arguments["max_length"]
    if not fields["trm"]:
        return describe_arguments("ModelWrapper", {**arguments, "backend": backend})
    arguments |= {name: fields[name] for name in _RECURSION}
    described = describe_arguments("TRMWrapper", {**arguments, "backend": backend})
    if arguments["pad_id"] is None:
        return described
    # The original trains the recursive model without the mask that the task has.
    return replace(described, options={**described.options, "ignore_mask": True})


def describe_arguments(wrapper: str, arguments: Mapping[str, Any]) -> SequenceDescription:
    """Return our model for the constructor arguments of class `wrapper`, `backend` and its arguments among them."""
    backend = arguments.get("backend", "transformer")
    model_type, *facts, options = translate_sequence_arguments(wrapper, backend, arguments)
    return SequenceDescription(model_type, backend, *facts, options)


def stores_length(state: Mapping[str, Any]) -> bool:
    """Tell whether the largest length of sequences can be read from the weights."""
    return _POSITIONS in state or _PROJECTION in state


def _data_facts(task: str, state: State) -> dict[str, Any]:
    """Return what the original takes from the data set."""
    rows = len(_find(state, _EMBEDDING))
    padded = task in (*_PADDED_BEHIND, *_PADDED_BEFORE)
    vocab_size = rows - padded
    extra = int("cls_token" in state)
    stored = next((len(state[name]) - extra for name in (_POSITIONS, _PROJECTION) if name in state), None)
    return {
        "task": task,
        "vocab_size": vocab_size,
        "num_labels": len(_find(state, *_HEADS)),
        "max_length": _LENGTHS[task] if stored is None else stored,
        "pad_id": (0 if task in _PADDED_BEFORE else vocab_size) if padded else None,
    }


def _find(state: State, *names: str) -> np.ndarray:
    """Return the first entry of these names; raises ValueError where there is none."""
    found = next((state[name] for name in names if name in state), None)
    if found is None or np.ndim(found) == 0:
        raise ValueError(
            f"the state_dict holds no {' or '.join(names)}, so it is no sequence model; check that the config belongs "
            "to this checkpoint"
        )
    return found
