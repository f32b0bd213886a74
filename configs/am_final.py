"""Final state of printed parts after cooling and removal from the plate: any model type, the recipe of LPBF.

    python -m experiments.pdebench --config=configs/am_final.py                          (FLARE, z-displacement)
    python -m experiments.pdebench --config=configs/am_final.py:model=mesh_graph_net
    python -m experiments.pdebench --config=configs/am_final.py:model=flare,smoke        (minutes on two CPU cores)

--config.data.fields=disp_z,vm chooses what is predicted: disp_z, vm and temp, alone or together; a temperature that is
the same everywhere is refused. Parts are padded to four sizes. Graph networks get the edges of the hexahedra, and those
of hanging nodes (--config.data.hanging_edges).
"""

from ml_collections import ConfigDict

from configs.common import parse_model
from configs.pde import get_config as pde_config

EXPECTED = None  # not measured


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration for `[model=<type>][,smoke]`, FLARE where no model is named."""
    model, variant = parse_model(argument, default="flare")
    config = pde_config(f"model={model},data=lpbf" + (f",{variant}" if variant else ""))
    config.name = "_".join(["am_final", model.replace("++", "_pp"), *([variant] if variant else [])])
    return config
