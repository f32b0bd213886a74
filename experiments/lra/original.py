"""The configuration of a run of ours for a converted sequence model of the original, on the original's data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from data_pipeline.generate import COMPOSITION_TASKS
from data_pipeline.sequence import pickles
from data_pipeline.sequence.dataset import SequenceDataset
from data_pipeline.sequence.registry import find_task
from experiments.lra.defaults import add_recursion, lra_defaults
from flare_jax.convert import to_torch
from flare_jax.convert.descriptions import SequenceDescription
from flare_jax.convert.sequence_config import stores_length

# Tasks whose samples our generators draw exactly as the original does; for all others only files will do.
_SAME_SAMPLES = (*COMPOSITION_TASKS, "mta-toy")


def converted_config(model: SequenceDescription, original: Mapping[str, Any], params: Mapping[str, Any]) -> ConfigDict:
    """Return the configuration for a converted model, computed in float32; `original` is the original's config."""
    config = lra_defaults(original["args"]["task"] if "args" in original else original["task"])
    options = dict(model.options)
    length, pad_id = options.pop("max_length", None), options.pop("pad_id", None)
    if length is not None and options.get("seq_len") == length:
        del options["seq_len"]  # it follows the length of the data
    config.model = ConfigDict({"type": model.model_type, "backend": model.backend, **options})
    config.train.dtype = "float32"
    if model.model_type == "trm":
        add_recursion(config)
    wanted = _data_options(config.data.name, pad_id)
    if length is not None and stores_length(to_torch(model.model_type, params)):
        wanted["max_length"] = length
    config.data.update({name: value for name, value in wanted.items() if name in config.data})
    return config


def _data_options(task: str, pad_id: int | None) -> dict[str, Any]:
    """Return what makes our data those of the original; a task has some of these options only."""
    return {
        "source": "auto" if task in _SAME_SAMPLES else "files",
        "mask_padding": pad_id == 0,
        "pad_blank": pad_id == 0,
        "split": "reference",
        "subsample": 1,
    }


def token_warning(dataset: SequenceDataset) -> str | None:
    """Return a warning where the data are not the preprocessed files, which give tokens numbers of their own."""
    has_pickles = any(layout.folder == pickles.FOLDER for layout in find_task(dataset.name).layouts)
    if not has_pickles or Path(dataset.source.path).name == pickles.FOLDER:
        return None
    return (
        f"warning: {dataset.source.path} is tokenised by this program; a checkpoint trained on the preprocessed files "
        f"of {pickles.FOLDER} needs these, for their tokens may have other numbers"
    )
