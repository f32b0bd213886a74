"""The configuration beside a checkpoint of the original: what its model was built with.

The original's two programs write a flat config.yaml, whose fields their factories turn into constructor arguments
(those of token sequences are in `sequence_config`). A file with the two keys `model` and `args`
gives the class's constructor arguments themselves. What constructor arguments mean for our models is in `originals` and
`sequence_originals`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from flare_jax.checks import check_choice
from flare_jax.convert.descriptions import Description, ModelDescription
from flare_jax.convert.original_arguments import ARGUMENTS, DataFacts
from flare_jax.convert.originals import ORIGINALS, find_original
from flare_jax.convert.sequence_config import describe_arguments, describe_fields
from flare_jax.convert.sequence_originals import WRAPPERS
from flare_jax.models.published import published_options
from runtime.words import brief, did_you_mean

# The original's command-line defaults of the fields that reach a model; a config.yaml may lack those added later.
_DEFAULTS: Mapping[str, Any] = {
    "use_defaults": False,
    "num_blocks": 8,
    "channel_dim": 64,
    "num_heads": 8,
    "act": None,
    "rmsnorm": False,
    "mlp_ratio": 4.0,
    "linformer_k": 256,
    "kernel": "identity",
    "norm_q": True,
    "norm_k": True,
    "num_layers_kv_proj": 3,
    "kv_proj_mlp_ratio": 1.0,
    "attn_scale": "one",
    "num_latents": 64,
    "num_layers_k_proj": 3,
    "num_layers_v_proj": 3,
    "k_proj_mlp_ratio": 1.0,
    "v_proj_mlp_ratio": 1.0,
    "num_layers_ffn": 3,
    "ffn_mlp_ratio": 1.0,
    "qk_norm": False,
    "num_passes": 1,
    "shared_ffn": False,
    "shared_att": False,
    "gating": False,
    "num_layers_gating_proj": 3,
    "gating_proj_mlp_ratio": 1.0,
    "num_layers_in_out_proj": 2,
    "in_out_proj_ratio": 1.0,
    "out_proj_norm": True,
    "conv2d": False,
    "unified_pos": False,
    "num_slices": 64,
    "num_modes": 256,
    "num_experts": 3,
    "pcvr_cross_attn": False,
}
_LARGEST_CONFIG = 2**16
# With `use_defaults` the original replaces the sizes of these models by those of its recipes, after writing its config.
_WITH_RECIPE = ("transolver", "transolver++", "lamo", "lno", "gnot", "perceiverio", "transformer")

DATA_FACTS: Mapping[str, DataFacts] = {
    "elasticity": DataFacts(2),
    "pipe": DataFacts(2, grid=(129, 129)),
    "airfoil_steady": DataFacts(2, grid=(221, 51)),
    "darcy": DataFacts(3, grid=(85, 85)),
    "navier_stokes": DataFacts(12, grid=(64, 64)),
    "shapenet_car": DataFacts(3),
    "drivaerml": DataFacts(3),
    "lpbf": DataFacts(3),
}


class _PlainLoader(yaml.SafeLoader):
    """A loader without references, by which a few lines can stand for more values than fit into memory."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"it refers to {self.peek_event().anchor!r}, write the value itself there")
        return super().compose_node(parent, index)


def read_original_config(path: Path | str) -> dict[str, Any]:
    """Return the content of a YAML (or JSON) file; raises ValueError if it is not a mapping of names to values."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"--config={path} does not exist; name the config.yaml beside the checkpoint")
    if path.stat().st_size > _LARGEST_CONFIG:
        raise ValueError(f"--config={path} has {path.stat().st_size} bytes, too many for a config; name another file")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_PlainLoader)
    except Exception as error:  # YAML's constructors pass on what numbers, dates and deep nesting raise
        reason = brief(error)
        raise ValueError(f"--config={path} cannot be read as YAML ({reason}); get the file again") from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ValueError(f"--config={path} holds no fields; name the config.yaml that the original wrote")
    return content


def describe_model(content: Mapping[str, Any], state_dict: Mapping[str, np.ndarray]) -> Description:
    """Return our model for the content of a config file.

    `state_dict` (without wrapper prefixes) decides where the original ignores or does not record a field. Raises
    ValueError for an unknown model type, data set or task, or a field that is missing.
    """
    if "model" in content and "args" in content:
        return _describe_constructor(content["model"], content["args"])
    data = "task" if "task" in content else "dataset"
    for field in ("model_type", data):
        if field not in content:
            raise ValueError(
                f"the config has no field {field!r}; name the config.yaml of the original's `python -m pdebench` or "
                "`python -m lra`, or a file with the keys model and args (the constructor arguments)"
            )
        if not isinstance(content[field], str):
            raise ValueError(f"the config's {field!r} is {content[field]!r} but must be a name; write it there")
    return describe_fields(content, state_dict) if data == "task" else _describe_points(content, state_dict)


def _describe_constructor(name: str, arguments: Any) -> Description:
    """Return our model for a class of the original, by its name here, and its constructor arguments."""
    check_choice("model of the config", name, [*ORIGINALS, *WRAPPERS])
    if not isinstance(arguments, Mapping):
        raise ValueError(f"args of the config is {arguments!r} but must map names to values; list the arguments there")
    if name in WRAPPERS:
        return describe_arguments(name, arguments)
    original = find_original(name, arguments)
    return ModelDescription(original.model_type, *original.translate(arguments))


def _describe_points(content: Mapping[str, Any], state_dict: Mapping[str, np.ndarray]) -> ModelDescription:
    """Return our model for the fields of the original's `python -m pdebench`."""
    model_type, dataset = content["model_type"], content["dataset"]
    if model_type not in ARGUMENTS:
        raise ValueError(
            f"model_type {model_type!r} of the config is not one of the original's"
            f"{did_you_mean(model_type, ARGUMENTS)}; known are {', '.join(ARGUMENTS)}"
        )
    fields = {**_DEFAULTS, **content}
    name, arguments = ARGUMENTS[model_type](fields, _find_facts(dataset), state_dict)
    original = find_original(name)
    in_dim, out_dim, options = original.translate(arguments)
    if fields["use_defaults"] and model_type in _WITH_RECIPE:
        options = {**options, **published_options(original.model_type, dataset)}
    return ModelDescription(original.model_type, in_dim, out_dim, options)


def _find_facts(dataset: str) -> DataFacts:
    name = "drivaerml" if dataset.startswith("drivaerml_") else dataset
    if name not in DATA_FACTS:
        raise ValueError(
            f"data set {dataset!r} of the config has no steady models{did_you_mean(dataset, DATA_FACTS)}; known are "
            f"{', '.join(DATA_FACTS)}; for another, write a config with the keys model and args"
        )
    return DATA_FACTS[name]
