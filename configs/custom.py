"""FLARE on your own data: a folder of .npz, HDF5 or mesh files, or one HDF5 file (see data_pipeline/custom).

    python -m experiments.pdebench --config=configs/custom.py --config.data.path=DIR
    python -m data_pipeline.custom.example --out=data/ellipses                   (example data, if you have none)
    python -m experiments.pdebench --config=configs/custom.py:smoke              (these, minutes on two CPU cores)

A file has the arrays points, targets, and optionally inputs and cells; other names are set by --config.data.points,
--config.data.inputs and --config.data.targets, for example --config.data.targets=pressure,velocity. Files of more than
--config.data.memory_gib are streamed from disk. Any model type will do: --config.model.type is chosen by the second
part of configs/custom.py:model=transolver.
"""

from ml_collections import ConfigDict

from configs.common import model_section, parse_arguments, update
from configs.pde_recipes import SMOKE_SIZES
from experiments.defaults import pde_defaults

_FLARE_SIZES = {"channel_dim": 64, "num_blocks": 8, "num_heads": 8, "num_latents": 128}


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration for `[model=<type>][,smoke]`; `smoke` is a small network on the example data."""
    text = argument or ""
    named = text if "model=" in text else f"model=flare,{text}"
    chosen = parse_arguments(named, names=("model",), switches=("smoke",))
    config = pde_defaults("custom")
    config.name = "custom" if chosen["model"] == "flare" else f"custom_{chosen['model'].replace('++', '_pp')}"
    update(config.data, {"n_train": 0, "n_test": 0})
    config.model = model_section(chosen["model"])
    update(config.model, {name: size for name, size in _FLARE_SIZES.items() if name in config.model})
    # Few samples need as many steps as many do: on 40 ellipses the error halves from 4000 steps to 12 000.
    update(config.train, {"epochs": 200, "min_steps": 10_000, "batch_size": 1})
    config.optimizer.weight_decay = 1e-5
    config.eval.batch_size = 1
    if chosen["smoke"]:
        config.name += "_smoke"
        update(config.data, {"path": "data/ellipses", "inputs": "angle", "targets": "pressure,velocity"})
        update(config.model, {name: size for name, size in SMOKE_SIZES.items() if name in config.model})
        update(config.train, {"epochs": 20, "min_steps": 0, "batch_size": 2})
    return config
