"""What studies share: the configs of their data sets, and networks so small that a study runs in a test."""

from collections.abc import Mapping
from typing import Any

from experiments.cli import flatten, load_config

ELASTICITY = "configs/flare_elas.py"
DARCY = "configs/flare_darcy.py"
ABLATIONS = "configs/flare_ablations_elas.py"
# Of tiny runs, which are those that the comparison has: equal runs of several studies are made once.
TINY_FLARE = "configs/pde.py:model=flare,data=elasticity,smoke"
TINY_ABLATIONS = "configs/pde.py:model=flare_ablations,data=elasticity,smoke"

# Runs of seconds on one CPU core, for the options that a config has. Of each run only the errors are wanted.
_TINY: Mapping[str, Any] = {
    "data.n_train": 16,
    "data.n_test": 16,
    "model.channel_dim": 8,
    "model.num_blocks": 1,
    "model.num_heads": 2,
    "model.num_latents": 4,
    "model.num_slices": 4,
    "model.num_layers_k_proj": 0,
    "model.num_layers_v_proj": 0,
    "model.num_layers_kv_proj": 0,
    "model.num_layers_ffn": 0,
    "model.num_layers_in_out_proj": 0,
    "model.state_space_head_dim": 8,
    "model.num_groups": 1,
    "train.batch_size": 4,
    "train.epochs": 2,
    "optimizer.name": "adamw",
    "eval.simple_predictors": False,
    "figures": False,
}


def tiny(config: str, **changes: Any) -> dict[str, Any]:
    """Return the options of a tiny run of a config; `changes` are other sizes of its model."""
    known = flatten(load_config(config))
    sizes = {**_TINY, **{f"model.{name}": value for name, value in changes.items()}}
    return {option: value for option, value in sizes.items() if option in known}
