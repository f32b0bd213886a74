"""How each model type is trained on each data set: the recipes of the published comparison.

Facts of a data set are in its record (`data_pipeline.record`), those of models here. The recipes of FLARE are its
published settings, those of the baselines the original's `use_defaults`; model types that the original has no recipe
for take those of their nearest relative, as said beside them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from data_pipeline.record import DatasetRecord
from data_pipeline.registry import DATASETS as RECORDS
from flare_jax.models.published import has_published_options, published_options
from flare_jax.models.registry import MODELS
from runtime.words import did_you_mean

# Data sets that models are compared on; those without a recipe, such as own files, have a config of their own.
DATASETS: Mapping[str, DatasetRecord] = {name: record for name, record in RECORDS.items() if record.recipe}
# Model types with a variant of convolutions on a structured grid.
CONVOLUTIONAL = ("transolver", "lamo", "ts3_uncond")

# Model types that are trained alike; records name a family where they change a recipe for all of it.
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "flare": ("flare", "flare_experimental", "flare_ablations", "loopy", "unloopy"),
    "attention": ("transformer", "linformer", "linear"),
    "slices": ("transolver", "lamo", "ts1_uncond", "ts3_uncond"),
    "flarepp": ("flarepp", "luna", "set_transformer", *(name for name in MODELS if name.startswith("backbone_"))),
}
_SLICES = {"pct_start": 0.3, "div_factor": 25.0, "clip_norm": 0.1}
# What differs from `Recipe` for a family or a model type, on every data set that does not say otherwise.
_RECIPES: Mapping[str, Mapping[str, Any]] = {
    "flare": {},
    "slices": _SLICES,
    # FLARE++ and its rivals: latents are not decayed, and float32 products are exact.
    "flarepp": {"decay_latents": False, "matmul_precision": "highest"},
    "flare_pp": {"decay_latents": False},
    "transolver++": _SLICES,
    "gnot": _SLICES,
    "lno": {"pct_start": 0.2, "beta2": 0.99, "clip_norm": 1000.0},
}


@dataclass(frozen=True)
class Recipe:
    """Optimizer, schedule and length of a run; AdamW and OneCycle with cycled beta1 in all of them."""

    batch_size: int
    weight_decay: float
    epochs: int = 500
    pct_start: float = 0.1
    div_factor: float = 1e4
    clip_norm: float = 1.0
    beta2: float = 0.999
    eps: float = 1e-8
    learning_rate: float = 1e-3
    dtype: str = "float32"
    decay_latents: bool = True
    matmul_precision: str = "default"


def training_recipe(model_type: str, dataset: str) -> Recipe:
    """Return how `model_type` is trained on `dataset`; raises ValueError for a data set without recipes."""
    if dataset not in DATASETS:
        raise ValueError(
            f"data {dataset!r} has no recipe{did_you_mean(dataset, DATASETS)}; choose one of {', '.join(DATASETS)}"
        )
    own = _of_model(_RECIPES, model_type, {"div_factor": 25.0})
    return Recipe(**{**own, **_facts(DATASETS[dataset].recipe, model_type)})


def family(model_type: str) -> str | None:
    """Return the family that a model type is trained like, None for one of its own."""
    return next((name for name, members in FAMILIES.items() if model_type in members), None)


def _of_model(table: Mapping[str, Any], model_type: str, default: Any) -> Any:
    """Return the row of a model type, else that of its family."""
    return table.get(model_type, table.get(family(model_type), default))


def _facts(facts: Mapping[str, Mapping[str, Any]], model_type: str) -> dict[str, Any]:
    """Return what a record says for a model type: for all, then for its family, then for itself."""
    names = ("all", family(model_type), model_type)
    return {key: value for name in names for key, value in facts.get(name, {}).items()}


def model_options(model_type: str, dataset: str) -> dict[str, Any]:
    """Return the options of `model_type` for `dataset` that differ from its constructor's defaults."""
    record = DATASETS[dataset]
    options = {**_sizes(model_type, record), **_facts(record.model, model_type)}
    if model_type == "gnot" and record.grid is not None:
        options |= {"grid_shape": "data", "unified_pos": True, "ref": 8}
    return options


def _sizes(model_type: str, record: DatasetRecord) -> dict[str, Any]:
    if family(model_type) == "flare":
        return _flare_sizes(model_type, record)
    if family(model_type) == "flarepp" or model_type == "flare_pp":
        return published_options(model_type, record.like or record.name)
    if model_type in ("ts1_uncond", "ts3_uncond"):  # no recipe: Transolver's
        return published_options("transolver", record.name)
    if model_type == "linformer":  # no recipe: the transformer's, with the command line's k
        return published_options("transformer", record.name) | {"k": 256, "seq_len": "data"}
    if model_type == "linear":  # no recipe: the transformer's, with a map that keeps the denominator positive
        return published_options("transformer", record.name) | {"kernel": "elu"}
    if model_type == "upt":
        return dict(_UPT)
    # A model that was never published has its own defaults.
    return published_options(model_type, record.name) if has_published_options(model_type) else {}


def _flare_sizes(model_type: str, record: DatasetRecord) -> dict[str, Any]:
    sizes = published_options("flare", record.like or record.name)
    if model_type == "loopy":  # no recipe: FLARE's depth from half the blocks
        return sizes | {"num_blocks": 4, "num_passes": 2}
    return sizes | {"shared_ffn": True} if model_type == "unloopy" else sizes


# Suggested settings, with coordinates as the sinusoidal embeddings want them.
_UPT = {
    "channel_dim": 128,
    "num_heads": 8,
    "num_latents": 128,
    "num_supernodes": 256,
    "radius": 10.0,
    "coord_min": "data",
    "coord_scale": "data",
}

# Sizes of the `smoke` variants, for the options that a model type has.
SMOKE_SIZES: Mapping[str, Any] = {
    "channel_dim": 32,
    "num_blocks": 2,
    "num_heads": 4,
    "num_latents": 16,
    "num_slices": 16,
    "num_modes": 16,
    "k": 16,
    "num_encoder_blocks": 1,
    "num_approximator_blocks": 1,
    "num_decoder_blocks": 1,
    "num_supernodes": 64,
    "max_degree": 8,
    "state_dim": 8,
    "state_space_head_dim": 8,
    "num_groups": 1,
}
