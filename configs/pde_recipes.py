"""How each model type is trained on each data set: the recipes of the published comparison.

The recipes of FLARE are its published settings, those of the baselines the original's `use_defaults`. Model types and
data sets that the original has no recipe for take those of their nearest relative, as said beside them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flare_jax.checks import did_you_mean
from flare_jax.models.published import published_options

PLANE = ("elasticity", "darcy", "airfoil_steady", "pipe", "darcy_small")
DRIVAERML = tuple(f"drivaerml_{size}" for size in ("10k", "40k", "50k", "100k", "200k", "300k", "400k", "500k", "1m"))
SPACE = ("shapenet_car", "lpbf", *DRIVAERML)
MESH_SERIES = ("cylinder_flow", "airfoil_dynamic")
FRAMES = ("navier_stokes", "plasticity", *MESH_SERIES)
DATASETS = (*PLANE, *SPACE, *FRAMES)
GRIDS = ("darcy", "airfoil_steady", "pipe", "darcy_small", "navier_stokes", "plasticity")
# Where the convolutional variants get unified positions; Navier-Stokes as in Transolver's own runs.
UNIFIED_GRIDS = ("darcy", "darcy_small", "navier_stokes")
# Generated samples, where the defaults are not meant: those of the public files, or what is read of them.
NUM_GENERATE = {"navier_stokes": 1200, "plasticity": 987, "cylinder_flow": 120, "airfoil_dynamic": 120}
# Model types with a variant of convolutions on a structured grid.
CONVOLUTIONAL = ("transolver", "lamo", "ts3_uncond")

_FLARE = ("flare", "flare_experimental", "flare_ablations", "loopy", "unloopy")
_ATTENTION = ("transformer", "linformer", "linear")
_SLICES = ("transolver", "lamo", "ts1_uncond", "ts3_uncond")


@dataclass(frozen=True)
class Recipe:
    """Optimizer, schedule and length of a run; AdamW and OneCycle with cycled beta1 in all of them."""

    epochs: int
    batch_size: int
    weight_decay: float
    pct_start: float = 0.1
    div_factor: float = 1e4
    clip_norm: float = 1.0
    beta2: float = 0.999
    eps: float = 1e-8
    learning_rate: float = 1e-3
    dtype: str = "float32"


def training_recipe(model_type: str, dataset: str) -> Recipe:
    """Return how `model_type` is trained on `dataset`; raises ValueError for a data set without recipes."""
    if dataset not in DATASETS:
        raise ValueError(
            f"data {dataset!r} has no recipe{did_you_mean(dataset, DATASETS)}; choose one of {', '.join(DATASETS)}"
        )
    epochs = {"shapenet_car": 250, "lpbf": 250, "darcy_small": 200}.get(dataset, 500)
    if dataset in MESH_SERIES:  # not published: an epoch has all pairs of successive frames, some 500 of each case
        epochs = 50
    one = {
        "epochs": epochs,
        "batch_size": _batch_size(model_type, dataset),
        "weight_decay": _decay(model_type, dataset),
    }
    if model_type in (*_SLICES, "transolver++", "gnot"):
        return Recipe(**one, pct_start=0.3, div_factor=25.0, clip_norm=0.1)
    if model_type == "lno":
        return Recipe(**one, pct_start=0.2, beta2=0.99, clip_norm=1000.0)
    clip_norm = 0.1 if dataset == "plasticity" else 1.0  # not published for plasticity: Transolver's
    if model_type in _FLARE:
        if dataset == "drivaerml_1m":
            return Recipe(**one, pct_start=0.05, eps=1e-6, learning_rate=5e-4, dtype="bfloat16")
        return Recipe(**one, clip_norm=clip_norm)
    eps = 1e-6 if model_type in _ATTENTION and dataset == "pipe" else 1e-8
    return Recipe(**one, div_factor=25.0, clip_norm=clip_norm, eps=eps)


def _batch_size(model_type: str, dataset: str) -> int:
    if dataset in SPACE:
        return 1
    if dataset in ("navier_stokes", "plasticity"):  # not published for FLARE and others: those of Transolver
        return 2 if dataset == "navier_stokes" else 8
    if dataset in MESH_SERIES:  # published for Transolver; those that have its batch on grids have it here too
        return 4 if model_type in (*_SLICES, "transolver++", "gnot", "lno") else 8
    if dataset == "darcy_small":
        return 4
    if model_type in _SLICES:
        return 1 if dataset == "elasticity" else 4
    if model_type == "transolver++":
        return 8 if dataset == "elasticity" else 4
    if model_type == "gnot":
        return 2 if dataset == "elasticity" else 4
    return 4 if model_type == "lno" else 2


def _decay(model_type: str, dataset: str) -> float:
    if dataset == "shapenet_car":
        return 5e-2
    if dataset in ("drivaerml_40k", "lpbf"):
        return 1e-4
    if model_type == "lno" or (model_type == "gnot" and dataset == "darcy"):
        return 5e-5
    return 1e-5


def model_options(model_type: str, dataset: str) -> dict[str, Any]:
    """Return the options of `model_type` for `dataset` that differ from its constructor's defaults."""
    options = _sizes(model_type, dataset)
    if model_type == "gnot" and dataset in GRIDS:
        options |= {"grid_shape": "data", "unified_pos": True, "ref": 8}
    return options


def _sizes(model_type: str, dataset: str) -> dict[str, Any]:
    if model_type in _FLARE:
        return _flare_sizes(model_type, dataset)
    if model_type in ("ts1_uncond", "ts3_uncond"):  # no recipe: Transolver's
        return published_options("transolver", dataset)
    if model_type == "linformer":  # no recipe: the transformer's, with the command line's k
        return published_options("transformer", dataset) | {"k": 256, "seq_len": "data"}
    if model_type == "linear":  # no recipe: the transformer's, with a map that keeps the denominator positive
        return published_options("transformer", dataset) | {"kernel": "elu"}
    if model_type == "upt":
        return _upt_sizes(dataset)
    return published_options(model_type, dataset)


def _flare_sizes(model_type: str, dataset: str) -> dict[str, Any]:
    # Not published: small Darcy takes the sizes of elasticity, ShapeNet those of DrivAerML, and fields over time those
    # of the pipe, twice as wide on Navier-Stokes, as Transolver is there.
    relatives = {"darcy_small": "elasticity", "shapenet_car": "drivaerml_40k", **dict.fromkeys(FRAMES, "pipe")}
    sizes = published_options("flare", relatives.get(dataset, dataset))
    if dataset == "navier_stokes":
        sizes |= {"channel_dim": 2 * sizes["channel_dim"]}
    if model_type == "loopy":  # no recipe: FLARE's depth from half the blocks
        return sizes | {"num_blocks": 4, "num_passes": 2}
    return sizes | {"shared_ffn": True} if model_type == "unloopy" else sizes


def _upt_sizes(dataset: str) -> dict[str, Any]:
    """Suggested settings; on large meshes a radius with some 8 to 32 neighbours."""
    many = dataset in SPACE or dataset in ("darcy", "airfoil_steady", "pipe")
    sizes = {"channel_dim": 128, "num_heads": 8, "num_latents": 128}
    sizes |= {"num_supernodes": 2048 if many else 256, "radius": 5.0 if many else 10.0}
    # The third channel of Darcy is the permeability, those of nodes of a mesh series their type: features.
    space = {"space_dim": 2} if dataset in ("darcy", "darcy_small", *MESH_SERIES) else {}
    return sizes | space | {"coord_min": "data", "coord_scale": "data"}


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

_SMOKE_SERIES = {
    "data": {"skip_steps": 0, "max_steps": 20, "n_train": 4, "n_test": 2},
    "train": {"epochs": 10, "ema_decay": 0.9},
}
# Artificial cars of 10 000 points for all numbers of points: more do not fit into minutes.
_SMOKE_CARS = {
    "data": {"name": "drivaerml_10k", "n_train": 12, "n_test": 3, "num_generate": 19},
    "task": {"points_per_step": 1024},
    "train": {"epochs": 20, "ema_decay": 0.9, "dtype": "float32"},
}
# What the `smoke` variants of a data set change by config section: coarser grids, fewer and shorter samples.
SMOKE_CHANGES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "darcy": {"data": {"resolution": 43, "side": 22}},
    "navier_stokes": {
        "data": {"resolution": 16, "n_train": 96, "n_test": 8, "num_generate": 130},
        # Of so few flows true frames teach too little: their rollouts end worse than repeating the last known frame.
        "task": {"feed": "pushforward"},
        "train": {"epochs": 40, "ema_decay": 0.9},
    },
    "plasticity": {
        "data": {"resolution": 21, "n_train": 24, "n_test": 8, "num_generate": 40},
        "train": {"epochs": 5, "batch_size": 4, "ema_decay": 0.9},
    },
    **dict.fromkeys(MESH_SERIES, _SMOKE_SERIES),
    **dict.fromkeys(DRIVAERML, _SMOKE_CARS),
}
