"""Printed parts layer by layer: any model type, from the fields after one group of layers to the next, marched on.

    python -m experiments.pdebench --config=configs/am_series.py                         (FLARE)
    python -m experiments.pdebench --config=configs/am_series.py:model=mesh_graph_net
    python -m experiments.pdebench --config=configs/am_series.py:model=flare,smoke       (minutes on two CPU cores)
    python -m experiments.pdebench --mode=eval --workdir=out/am_series_flare --march_from=5     (from state 4 on)

A training sample is a part at one of its steps; the loss counts the nodes that are there. --config.task.noise adds
noise to what the model sees, --config.task.fill_new_layer=True lets new nodes begin with the fields of the nearest node
below. Evaluation marches from the first state; --march_from=K from the state before step K, --teacher_forced from the
true state before every step, each into a folder of its own. The sizes are those of LPBF, the rest nobody published.
"""

from ml_collections import ConfigDict

from configs.common import parse_model
from configs.pde import get_config as pde_config

EXPECTED = None  # not measured


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration for `[model=<type>][,smoke]`, FLARE where no model is named."""
    model, variant = parse_model(argument, default="flare")
    config = pde_config(f"model={model},data=am_series" + (f",{variant}" if variant else ""))
    config.name = "_".join(["am_series", model.replace("++", "_pp"), *([variant] if variant else [])])
    return config
