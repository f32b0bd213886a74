"""Entries that an original stores without using them: they are made up, so that it loads a state_dict of ours."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

State = Mapping[str, np.ndarray]
Options = Mapping[str, Any]

_MAX_WAVELENGTH = 10000.0


def with_unused_entries(model_type: str, options: Options, state: State) -> dict[str, np.ndarray]:
    """Return a state_dict made by `to_torch` with the entries added that have no effect."""
    return {**state, **_UNUSED[model_type](options, state)} if model_type in _UNUSED else dict(state)


def _condition_embedding(options: Options, state: State) -> dict[str, np.ndarray]:
    """Transolver++ embeds a vector of three conditions that its command line never gives."""
    width = len(state["placeholder"])
    return {"embedding.weight": _zeros(width, 3), "embedding.bias": _zeros(width)}


def _slice_bias(options: Options, state: State) -> dict[str, np.ndarray]:
    """TS1 keeps a bias per slice for a load balancing that is switched off."""
    return {f"{name}_bias": _zeros(*value.shape[:2]) for name, value in state.items() if name.endswith(".wtq")}


def _group_norms(options: Options, state: State) -> dict[str, np.ndarray]:
    """TS3 has two norms of the head width in every attention."""
    entries = {}
    for name, value in state.items():
        if name.endswith(".wtq"):
            for norm in ("gn1", "gn2"):
                prefix = f"{name.removesuffix('wtq')}{norm}"
                entries |= {f"{prefix}.weight": _zeros(value.shape[-1]) + 1, f"{prefix}.bias": _zeros(value.shape[-1])}
    return entries


def _frequencies(options: Options, state: State) -> dict[str, np.ndarray]:
    """UPT's original stores the constant frequencies of its coordinate embedding, twice."""
    channel_dim, features = state["encoder.supernode_pooling.input_proj.proj.weight"].shape
    width = channel_dim // (options.get("space_dim") or features)
    omega = _MAX_WAVELENGTH ** (-2 * np.arange(width // 2) / (width - width % 2))
    names = ("encoder.supernode_pooling.pos_embed.omega", "decoder.pos_embed.omega")
    return {name: omega.astype(np.float32) for name in names}


def _zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


_UNUSED: Mapping[str, Callable[[Options, State], dict[str, np.ndarray]]] = {
    "transolver++": _condition_embedding,
    "ts1_uncond": _slice_bias,
    "ts3_uncond": _group_norms,
    "upt": _frequencies,
}
