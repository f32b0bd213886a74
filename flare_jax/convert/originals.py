"""How the constructor arguments of the PyTorch originals map to the options of our models.

The names are those of the recorded results ("goldens") and, mostly, of the original's `model_type`. One row per class.
"""

import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flare_jax.checks import check_choice
from flare_jax.mixers.backbone_mixers import MIXERS
from flare_jax.models.registry import MODELS
from flare_jax.options import without_unused
from runtime.words import did_you_mean


def _unchanged(arguments: dict[str, Any]) -> dict[str, Any]:
    return arguments


@dataclass(frozen=True)
class OriginalModel:
    """How the constructor arguments of an original model map to ours.

    `in_dim` and `out_dim` are the original's names of the two widths. `renamed` maps its argument names to ours,
    `ignored` lists arguments without effect there, `fixed` sets options of ours that reproduce what the original
    hard-wires. `adapt` comes first and rewrites the arguments where renaming does not do.
    """

    model_type: str
    in_dim: str = "in_dim"
    out_dim: str = "out_dim"
    renamed: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    adapt: Callable[[dict[str, Any]], dict[str, Any]] = _unchanged

    def translate(self, arguments: Mapping[str, Any]) -> tuple[int, int, dict[str, Any]]:
        """Return (in_dim, out_dim, options) of our model for the original's constructor arguments."""
        adapted = self.adapt(dict(arguments))
        missing = [name for name in (self.in_dim, self.out_dim) if name not in adapted]
        if missing:
            raise ValueError(
                f"the constructor arguments of the original's {self.model_type!r} lack {missing[0]!r}; "
                f"add it to {', '.join(adapted)}"
            )
        options = {
            self.renamed.get(name, name): value
            for name, value in adapted.items()
            if name not in (self.in_dim, self.out_dim, *self.ignored)
        }
        # The original takes options that have no effect beside others; ours says so.
        options = without_unused(MODELS[self.model_type].config, {**options, **self.fixed})
        return adapted[self.in_dim], adapted[self.out_dim], options


def _wrapper_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Resolve an unknown activation, which the original's transformers take for SiLU in the blocks and GELU outside."""
    if arguments.get("act") in (None, "gelu", "silu"):
        return arguments
    return arguments | {"act": "silu", "in_out_proj_act": "gelu"}


def _grid_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Join the sizes of a structured grid, which the originals take axis by axis."""
    axes = [axis for axis in ("H", "W", "D") if axis in arguments]
    others = {name: value for name, value in arguments.items() if name not in axes}
    return others | {"grid_shape": tuple(arguments[axis] for axis in axes)} if axes else others


def _slice_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Give slice-token models their grid and the original's use of x: `unified_pos` drops it (docs/original.md, D2)."""
    adapted = _grid_arguments({"space_dim": 1, "fun_dim": 1, "out_dim": 1, **arguments})
    if adapted.get("unified_pos"):
        adapted["unified_pos_drop_input"] = True
    return adapted


def _transolver_pp_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    if arguments.pop("unified_pos", False):
        raise ValueError("unified_pos is True, for which the original's transolver++ has no features; set it to False")
    return _slice_arguments(arguments)


def _lamo_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Spread the sizes of the state-space layer, which the original hard-wires and recorded results name `ssm`."""
    sizes = arguments.pop("ssm", {})
    return _slice_arguments(arguments) | sizes


_LNO_ACTIVATIONS = {
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "ReLU": "relu",
    "LeakyReLU": "leaky_relu",
    "ELU": "ELU",
    "GELU": "gelu",
}


def _lno_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Translate the activation; time in `model_attr` forces an output of width 1."""
    with_time = (arguments.pop("model_attr", None) or {}).get("time", False)
    act = arguments.get("act", "GELU")
    adapted = arguments | {"act": _LNO_ACTIVATIONS.get(act, act)}
    return adapted | {"y2_dim": 1} if with_time else adapted


def _gnot_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Give GNOT its grid and the original's use of x: `unified_pos` drops it (docs/original.md, D2) if it has one."""
    adapted = {"space_dim": 2, "fun_dim": 1, "out_dim": 1, "geotype": "unstructured", **arguments}
    shape, structured = adapted.pop("shapelist", None), adapted.pop("geotype") != "unstructured"
    reference = adapted.pop("ref", None)
    unified = adapted.pop("unified_pos", False) and structured
    if structured and shape is not None:
        adapted["grid_shape"] = tuple(shape)
    if unified:
        adapted |= {"unified_pos": True, "unified_pos_drop_input": True}
    return adapted if reference is None else adapted | {"ref": reference}


def _upt_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Count the features among the channels of the input, which follow the coordinates."""
    adapted = {"fun_dim": 0, **arguments}
    minimum = adapted.get("coord_min")
    adapted["coord_min"] = None if minimum is None else tuple(float(value) for value in minimum)
    return adapted | {"in_dim": adapted["space_dim"] + adapted.pop("fun_dim")}


_ABLATION_NAMES = {
    "num_layers_mlp": "num_layers_ffn",
    "mlp_ratio": "ffn_mlp_ratio",
    "kv_proj_ratio": "kv_proj_mlp_ratio",
    "out_proj_ln": "out_proj_norm",
}
_LNO_NAMES = {
    "n_block": "num_blocks",
    "n_mode": "num_modes",
    "n_dim": "channel_dim",
    "n_head": "num_heads",
    "n_layer": "num_layers_mlp",
    "y1_dim": "fun_dim",
}
_GNOT_NAMES = {
    "n_experts": "num_experts",
    "n_heads": "num_heads",
    "n_hidden": "channel_dim",
    "n_layers": "num_blocks",
}
_UPT_NAMES = {
    "n_encoder_layers": "num_encoder_blocks",
    "n_approximator_layers": "num_approximator_blocks",
    "n_decoder_layers": "num_decoder_blocks",
}
_SLICE_NAMES = {
    "n_layers": "num_blocks",
    "n_hidden": "channel_dim",
    "n_head": "num_heads",
    "slice_num": "num_slices",
    "Time_Input": "time_input",
}
_STATE_SPACE_NAMES = {
    "d_state": "state_dim",
    "d_conv": "conv_width",
    "headdim": "state_space_head_dim",
    "ngroups": "num_groups",
}


BACKBONE = "mixer_backbone"
_DIAGNOSTICS = ("diagnostics",)


def _without_unset_norm(arguments: dict[str, Any]) -> dict[str, Any]:
    """Leave out an `rmsnorm` of None, which stands for layer norms."""
    return {name: value for name, value in arguments.items() if (name, value) != ("rmsnorm", None)}


def _backbone_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Put the arguments of the mixer beside those of the backbone, without switches that have no effect."""
    mixer = dict(arguments.pop("mixer"))
    config, _ = MIXERS[mixer.pop("kind")]
    return without_unused(config, _without_unset_norm(arguments | mixer))


ORIGINALS: Mapping[str, OriginalModel] = types.MappingProxyType(
    {
        "flare": OriginalModel("flare"),
        "flare_experimental": OriginalModel("flare_experimental"),
        "flare_ablations": OriginalModel("flare_ablations", renamed=_ABLATION_NAMES),
        "loopy": OriginalModel("loopy"),
        "unloopy": OriginalModel("unloopy"),
        "lno": OriginalModel("lno", "x_dim", "y2_dim", renamed=_LNO_NAMES, adapt=_lno_arguments),
        "gnot": OriginalModel("gnot", "space_dim", renamed=_GNOT_NAMES, adapt=_gnot_arguments),
        "perceiverio": OriginalModel("perceiverio"),
        "upt": OriginalModel("upt", renamed=_UPT_NAMES, ignored=("act",), adapt=_upt_arguments),
        "transformer": OriginalModel("transformer", ignored=("backend",), adapt=_wrapper_arguments),
        "linformer": OriginalModel("linformer", ignored=("backend",), adapt=_wrapper_arguments),
        "linear": OriginalModel("linear", ignored=("backend",), adapt=_wrapper_arguments),
        "transolver": OriginalModel("transolver", "space_dim", renamed=_SLICE_NAMES, adapt=_slice_arguments),
        "transolver_2d": OriginalModel("transolver", "space_dim", renamed=_SLICE_NAMES, adapt=_slice_arguments),
        "transolver_pp": OriginalModel(
            "transolver++", "space_dim", renamed=_SLICE_NAMES, ignored=("ref",), adapt=_transolver_pp_arguments
        ),
        "lamo": OriginalModel("lamo", "space_dim", renamed=_SLICE_NAMES | _STATE_SPACE_NAMES, adapt=_lamo_arguments),
        "ts1_uncond": OriginalModel("ts1_uncond", renamed={"hidden_dim": "channel_dim"}, ignored=("k_val",)),
        "ts3_uncond": OriginalModel(
            "ts3_uncond", renamed={"hidden_dim": "channel_dim", "num_layers": "num_blocks"}, adapt=_grid_arguments
        ),
        "flarepp": OriginalModel("flarepp", ignored=_DIAGNOSTICS, adapt=_without_unset_norm),
        "luna": OriginalModel("luna", ignored=_DIAGNOSTICS, adapt=_without_unset_norm),
        "set_transformer": OriginalModel(
            "set_transformer",
            renamed={"mlp_ratio": "ffn_mlp_ratio", "num_slices": "num_latents"},
            ignored=_DIAGNOSTICS,
            adapt=_without_unset_norm,
        ),
        # The original sums messages at the source of an edge, and has no argument for it.
        "mesh_graph_net": OriginalModel(
            "mesh_graph_net",
            "ci_node",
            "co",
            renamed={"ci_edge": "edge_dim", "hidden_dim": "channel_dim", "num_layers": "num_blocks"},
            adapt=lambda arguments: {"aggregate": "source", **arguments},
        ),
        # One class there; the kind of the mixer in its arguments makes it one of our model types.
        BACKBONE: OriginalModel(
            "backbone_flarepp",
            renamed={"mlp_ratio_ffn": "ffn_mlp_ratio"},
            ignored=_DIAGNOSTICS,
            adapt=_backbone_arguments,
        ),
    }
)


def find_original(name: str, arguments: Mapping[str, Any] = types.MappingProxyType({})) -> OriginalModel:
    """Return the row of an original model with these constructor arguments; raises ValueError for an unknown name."""
    if name not in ORIGINALS:
        raise ValueError(
            f"there is no model for {name!r}{did_you_mean(name, ORIGINALS)}; choose one of {', '.join(ORIGINALS)}"
        )
    original = ORIGINALS[name]
    return replace(original, model_type=_backbone_type(arguments.get("mixer"))) if name == BACKBONE else original


def _backbone_type(mixer: Any) -> str:
    """Return our model type for the `mixer` of the original's backbone, a mapping with its `kind`."""
    kind = mixer.get("kind") if isinstance(mixer, Mapping) else None
    check_choice("kind of the argument mixer", kind, MIXERS)
    return f"backbone_{kind}"
