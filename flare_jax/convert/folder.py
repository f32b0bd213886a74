"""The folder that `python -m flare_jax.convert` writes: a description of the model and its parameters.

`converted.json` says how to build the model and where the weights came from, `parameters.safetensors` holds them under
our names, as `raw/NAME` and, where the checkpoint had an average, `ema/NAME`. `experiments.pdebench --mode=eval`, for
models of token sequences `experiments.lra --mode=eval`, opens such a folder like that of a run of its own.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from flare_jax import params as model_params
from flare_jax.checks import check_choice
from flare_jax.convert.descriptions import Description, read_description
from flare_jax.convert.safetensors import read_safetensors, write_safetensors
from runtime.files import file_digest, replacing
from runtime.json_files import read_object, write_json

DESCRIPTION_FILE = "converted.json"
PARAMETERS_FILE = "parameters.safetensors"
FORMAT = 2


@dataclass(frozen=True)
class ConvertedModel:
    """Parameters of a model of ours: `weights` maps 'raw', and 'ema' if there is an average, to them.

    `original` is the content of the original's config, `source` names the checkpoint file and its hash, `step` is the
    optimizer step of the checkpoint, where known. `surrogate` is what a saved surrogate has beside its model.
    """

    model: Description
    weights: Mapping[str, Mapping[str, Any]]
    original: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, str] = field(default_factory=dict)
    step: int | None = None
    surrogate: Mapping[str, Any] = field(default_factory=dict)


def write_converted(folder: Path | str, converted: ConvertedModel) -> None:
    """Write a new folder, whole or not at all; raises ValueError if something else is there."""
    folder = Path(folder)
    check_vacant(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with replacing(folder) as temporary:
        temporary.mkdir()
        _write(temporary, converted)


def _write(folder: Path, converted: ConvertedModel) -> None:
    arrays = {
        f"{kind}/{name}": np.asarray(value)
        for kind, params in converted.weights.items()
        for name, value in jax.device_get(dict(params)).items()
    }
    write_safetensors(folder / PARAMETERS_FILE, arrays)
    description = {
        "format": FORMAT,
        "model": asdict(converted.model),
        "weights": list(converted.weights),
        "step": converted.step,
        "digest": file_digest(folder / PARAMETERS_FILE),
        "source": dict(converted.source),
        "original": dict(converted.original),
        **({"surrogate": dict(converted.surrogate)} if converted.surrogate else {}),
    }
    write_json(folder / DESCRIPTION_FILE, description, default=str)


def check_vacant(folder: Path) -> None:
    """Raise ValueError unless `folder` does not exist or is empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not empty; name a new folder")


def is_converted(folder: Path | str) -> bool:
    """Tell whether `folder` was written by `write_converted`."""
    return (Path(folder) / DESCRIPTION_FILE).is_file()


def read_converted(folder: Path | str) -> ConvertedModel:
    """Read a converted folder; raises ValueError if its files are damaged, changed or of another version."""
    folder = Path(folder)
    try:
        content = read_object(folder / DESCRIPTION_FILE)
        if content.get("format") != FORMAT:
            raise ValueError(f"it has format {content.get('format')} but this version reads {FORMAT}")
        _check_types(content)
        model = read_description(content["model"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder / DESCRIPTION_FILE} does not describe a converted model ({error}); convert the checkpoint again"
        ) from error
    path = folder / PARAMETERS_FILE
    if not path.is_file() or file_digest(path) != content["digest"]:
        raise ValueError(f"{path} is missing or does not match its hash; convert the checkpoint again")
    arrays = read_safetensors(path)
    weights = {
        kind: {name.split("/", 1)[1]: value for name, value in arrays.items() if name.startswith(f"{kind}/")}
        for kind in content["weights"]
    }
    surrogate = content.get("surrogate", {})
    return ConvertedModel(model, weights, content["original"], content["source"], content["step"], surrogate)


def _check_types(content: Mapping[str, Any]) -> None:
    types = {"model": dict, "weights": list, "step": int | None, "digest": str, "source": dict, "original": dict}
    for name, kind in types.items():
        if not isinstance(content[name], kind) or isinstance(content[name], bool):
            raise ValueError(f"its {name} is {content[name]!r}")
    if "surrogate" in content and not isinstance(content["surrogate"], dict):
        raise ValueError(f"its surrogate is {content['surrogate']!r}")
    if sorted(content["weights"], key=str) not in (["raw"], ["ema", "raw"]):
        raise ValueError(f"its weights are {content['weights']!r}")


def load_converted(folder: Path | str, weights: str = "raw") -> nnx.Module:
    """Return the model in a converted folder with its 'raw' or 'ema' weights; raises ValueError if it has not these."""
    converted = read_converted(folder)
    check_choice("weights", weights, converted.weights)
    graphdef, _ = model_params.split(nnx.eval_shape(converted.model.build))
    return model_params.merge(graphdef, {name: jax.device_put(v) for name, v in converted.weights[weights].items()})
