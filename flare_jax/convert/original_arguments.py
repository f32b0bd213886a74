"""How the fields of the original's command line become constructor arguments of its models."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_UNIFIED_POSITION_REFERENCE = 8


@dataclass(frozen=True)
class DataFacts:
    """What the original's factory takes from a data set: channels, and the axes of a structured grid."""

    c_in: int
    c_out: int = 1
    grid: tuple[int, int] | None = None


Fields = Mapping[str, Any]
Arguments = tuple[str, dict[str, Any]]


def _pick(fields: Fields, *names: str, **renamed: str) -> dict[str, Any]:
    """Return the constructor arguments that have the names of fields, and those that have others."""
    return {name: fields[name] for name in names} | {argument: fields[name] for argument, name in renamed.items()}


def _sizes(facts: DataFacts) -> dict[str, Any]:
    return {"in_dim": facts.c_in, "out_dim": facts.c_out}


_FLARE = ("channel_dim", "num_blocks", "num_heads", "num_latents", "act", "num_layers_in_out_proj")
_WRAPPER = ("channel_dim", "num_blocks", "num_heads", "act", "rmsnorm", "out_proj_norm", "num_layers_in_out_proj")


def _flare(name: str) -> Callable[..., Arguments]:
    def arguments(fields: Fields, facts: DataFacts, state_dict: Mapping[str, Any]) -> Arguments:
        own = _pick(
            fields, *_FLARE, "rmsnorm", "out_proj_norm", "attn_scale", "num_layers_k_proj", "num_layers_v_proj",
            "k_proj_mlp_ratio", "v_proj_mlp_ratio", "num_layers_ffn", "ffn_mlp_ratio", "qk_norm",
        )  # fmt: skip
        return name, _sizes(facts) | own

    return arguments


def _flare_ablations(fields: Fields, facts: DataFacts, state_dict: Mapping[str, Any]) -> Arguments:
    # The original's command line has no fields of their own for these two (docs/original.md, D3).
    own = _pick(
        fields, *_FLARE, "num_layers_kv_proj", "in_out_proj_ratio", num_layers_mlp="num_layers_ffn",
        mlp_ratio="ffn_mlp_ratio", kv_proj_ratio="kv_proj_mlp_ratio", out_proj_ln="out_proj_norm",
        shared_latents="shared_att", num_latent_blocks="num_passes",
    )  # fmt: skip
    return "flare_ablations", _sizes(facts) | own


def _looped(fields: Fields) -> dict[str, Any]:
    return _pick(
        fields, *_FLARE, "rmsnorm", "out_proj_norm", "attn_scale", "num_layers_kv_proj", "kv_proj_mlp_ratio",
        "num_layers_ffn", "ffn_mlp_ratio",
    )  # fmt: skip


def _loopy(fields: Fields, facts: DataFacts, state_dict: Mapping[str, Any]) -> Arguments:
    return "loopy", _sizes(facts) | _looped(fields) | _pick(fields, "num_passes")


def _unloopy(fields: Fields, facts: DataFacts, state_dict: Mapping[str, Any]) -> Arguments:
    own = _looped(fields) | _pick(fields, "shared_ffn", "shared_att")
    # The original drops the gating options it records (docs/original.md, D4): the weights tell whether there is a gate.
    if fields["gating"] and any(".g_proj." in name for name in state_dict):
        own |= _pick(fields, "gating", "num_layers_gating_proj", "gating_proj_mlp_ratio")
    return "unloopy", _sizes(facts) | own


def _transformer(fields: Fields, facts: DataFacts, state_dict: Mapping[str, Any]) -> Arguments:
    return "transformer", _sizes(facts) | _pick(fields, *_WRAPPER, "mlp_ratio") | {"backend": "transformer"}


def _linformer(fields: Fields, facts: DataFacts, state_dict: Mapping[str, Any]) -> Arguments:
    # The longest sequence is a fact of the data set files; the stored projection has as many rows.
    rows = next((len(value) for name, value in state_dict.items() if name.endswith("att.E_k")), None)
    if rows is None:
        raise ValueError("the state_dict holds no E_k, so it is no linformer; check model_type in the config")
    own = _pick(fields, *_WRAPPER, "mlp_ratio", k="linformer_k") | {"backend": "linformer", "seq_len": rows}
    return "linformer", _sizes(facts) | own


def _linear(fields: Fields, facts: DataFacts, state_dict: Mapping[str, Any]) -> Arguments:
    own = _pick(fields, *_WRAPPER, "mlp_ratio", "kernel", "norm_q", "norm_k")
    return "linear", _sizes(facts) | own | {"backend": "linear"}


def _slices(name: str) -> Callable[..., Arguments]:
    """Return the rule of the models of slice tokens, which have a variant for structured grids (`conv2d`)."""

    def arguments(fields: Fields, facts: DataFacts, state_dict: Mapping[str, Any]) -> Arguments:
        own = _pick(
            fields,
            "mlp_ratio",
            n_layers="num_blocks",
            n_hidden="channel_dim",
            n_head="num_heads",
            slice_num="num_slices",
        )
        own |= {"space_dim": facts.c_in, "fun_dim": 0, "out_dim": facts.c_out}
        if name == "transolver_pp" or not fields["conv2d"]:
            return name, own
        if facts.grid is None:
            raise ValueError(f"conv2d is set but data set {fields['dataset']!r} has no grid; check the config")
        own |= {"H": facts.grid[0], "W": facts.grid[1], "unified_pos": fields["unified_pos"]}
        return ("transolver_2d" if name == "transolver" else name), own

    return arguments


def _lno(fields: Fields, facts: DataFacts, state_dict: Mapping[str, Any]) -> Arguments:
    own = _pick(
        fields, n_head="num_heads", n_mode="num_modes", n_dim="channel_dim", n_layer="num_layers_kv_proj",
        n_block="num_blocks",
    )  # fmt: skip
    widths = {"x_dim": facts.c_in, "y1_dim": facts.c_in, "y2_dim": facts.c_out}
    return "lno", own | widths | {"act": "GELU", "model_attr": {"time": False}}


def _gnot(fields: Fields, facts: DataFacts, state_dict: Mapping[str, Any]) -> Arguments:
    own = _pick(
        fields, "mlp_ratio", n_layers="num_blocks", n_hidden="channel_dim", n_experts="num_experts", n_heads="num_heads"
    )
    own |= {"space_dim": facts.c_in, "fun_dim": 0, "out_dim": facts.c_out}
    if facts.grid is not None:
        shape = {"geotype": "structured_2D", "shapelist": list(facts.grid), "ref": _UNIFIED_POSITION_REFERENCE}
        own |= {"unified_pos": True, **shape}
    return "gnot", own


def _perceiverio(fields: Fields, facts: DataFacts, state_dict: Mapping[str, Any]) -> Arguments:
    own = _pick(
        fields,
        "channel_dim",
        "num_blocks",
        "num_heads",
        "mlp_ratio",
        "act",
        "num_latents",
        cross_attn="pcvr_cross_attn",
    )
    return "perceiverio", _sizes(facts) | own


ARGUMENTS: Mapping[str, Callable[..., Arguments]] = {
    "flare": _flare("flare"),
    "flare_experimental": _flare("flare_experimental"),
    "flare_ablations": _flare_ablations,
    "loopy": _loopy,
    "unloopy": _unloopy,
    "transformer": _transformer,
    "linformer": _linformer,
    "linear": _linear,
    "transolver": _slices("transolver"),
    "transolver++": _slices("transolver_pp"),
    "lamo": _slices("lamo"),
    "lno": _lno,
    "gnot": _gnot,
    "perceiverio": _perceiverio,
}
